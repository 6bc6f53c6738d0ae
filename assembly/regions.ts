// Layout of a slot's region in the shared memory: what one thread of the engine works with and nobody else writes. Compiled
// twice like assembly/records.ts: plain constants only, no imports. Offsets count from the start of the region, in bytes.
//
//    0          header: pointers into the tables, switches, small state
//    SCRATCH    AEAD scratch, descriptors of packets to seal and to open
//    TUN_FRAME  the frames that read() filled: several small ones or a large one behind them
//    FRAMES     list of the frames for write(); they lie in receive buffers and in MERGED
//    RECEIVE_4, RECEIVE_6     kernel message headers and buffers for recvmmsg()
//    TRANSMIT_4, TRANSMIT_6   kernel message headers and data for sendmmsg()
//    JOBS       batches of packets that other workers may seal or open (assembly/jobs.ts)
//    RING       exceptions; its size is a capacity of the layout

// ---- Header -------------------------------------------------------------------------------------------------------------------

/** u64: address of the shared memory in the process, added to every address that the kernel sees. */
export const HOST_BASE = 0;
/** u32 each: addresses of the tables (assembly/records.ts). */
export const ROUTES = 8;
export const SESSION_INDEX = 12;
export const SESSIONS = 16;
export const CONNECTIONS = 20;
export const PATHS = 24;
export const FILTERS = 28;
export const FILTER_SETS = 32;
/** u32: bytes of the exception ring, a power of two. */
export const RING_SIZE = 36;
/** u32: 1 while messages may carry several datagrams (UDP_SEGMENT). */
export const SEGMENTATION_OFFLOAD = 40;
/** u32: 1 while TCP packets may be coalesced for the TUN device. */
export const MERGE_TCP = 44;
/** u32: 1 while UDP packets may be coalesced for the TUN device. */
export const MERGE_UDP = 48;
/** u32: 1 when exceptions were pushed since the caller last asked. */
export const EXCEPTIONS_PUSHED = 52;
/** u32: address of the door (assembly/records.ts). */
export const DOOR = 56;
/** u32: address of the bits of connections whose activity has changed. */
export const TOUCHED = 60;

/** u32, atomic, in a line of its own: odd while the thread may hold slots of the tables, even in poll(). */
export const EPOCH = 64;

/** u32, atomic, in lines of their own: bytes ever written to and read from the exception ring, modulo 2^32. */
export const RING_HEAD = 128;
export const RING_TAIL = 192;

/** u64 per reason of `Drop`. */
export const COUNTERS = 256;
/** Counters there is room for. */
export const MAX_COUNTERS = 32;

/** The segmentation of the packet at hand (assembly/packet/segment.ts). */
export const PLAN = 512;

// Memo of the last route lookup: packets come in trains.
/** u32: version of the table; odd for none. */
export const MEMO_VERSION = 640;
/** u32: 4 or 6. */
export const MEMO_FAMILY = 644;
/** u32: the result. */
export const MEMO_TARGET = 648;
/** u64, u64: the address. */
export const MEMO_HIGH = 656;
export const MEMO_LOW = 664;

/** u64: nobody reads it (assembly/look-ahead.ts). */
export const LOOKED_AT = 672;
/** u32: frames of the TUN device that have been read and not handled. */
export const HELD_COUNT = 680;

// Packets that are in their place in a transmit queue but not sealed yet.
/** u32: number of them. */
export const PENDING_COUNT = 704;
/** u32: address of the session record of the last announced. */
export const PENDING_SESSION = 708;
/** u64: counter of the next. */
export const PENDING_COUNTER = 712;
/** u32: 1 when they are not all of one session and family with consecutive counters. */
export const PENDING_MIXED = 744;
/** u32 each: family of the transmit queue they are in, and message of the first. */
export const PENDING_FAMILY = 736;
export const PENDING_MESSAGE = 740;

/** How many handshake messages the control plane may still be given (assembly/handshake-door.ts): a budget, 16 bytes. */
export const HANDSHAKE_BUDGET = 720;

// State of one call of `inbound`: everything up to the next comment of this kind is zero at its start.
/** u32: number of frames in FRAMES. */
export const FRAME_COUNT = 768;
/** u32: number of descriptors that wait to be opened. */
export const OPEN_COUNT = 772;
/** u32: address of the session they belong to; 0 before the first. */
export const OPEN_SESSION = 776;
/** u32: end of the used part of MERGED, an offset in the region. */
export const MERGED_TAIL = 780;
/** u32: runs in RUNS. */
export const RUN_COUNT = 784;
/** u32: run that took the last packet. */
export const LAST_RUN = 788;
/** u32: receiver index of that session. */
export const OPEN_INDEX = 808;
/** u32: packets of a batch: `JOB_PACKETS` while batches are shared with other workers, else `MAX_OPEN`. */
export const OPEN_LIMIT = 812;
/** u32: 4 or 6, the family of the socket. */
export const RECEIVE_FAMILY = 792;
/** u32: port of the socket. */
export const RECEIVE_PORT = 796;
/** f64: the caller's time, milliseconds. */
export const NOW = 800;

/** Headers of the two transmit queues (fields `QUEUE_…`). */
export const QUEUE_4 = 1024;
export const QUEUE_6 = 1152;

/** Open runs of packets that are being coalesced (fields `RUN_…`, assembly/packet/coalesce.ts). */
export const RUNS = 1280;
export const RUN_SIZE = 64;
export const MAX_RUNS = 8;

// The board of jobs: each word that another thread reads or writes lies in a line of its own. Numbers of jobs count up for ever, modulo 2^32.
/** u32, atomic: jobs ever posted. Written by the owner of the region. */
export const JOBS_POSTED = 1792;
/** u32, atomic: jobs that some thread has begun. */
export const JOBS_CLAIMED = 1856;
/** u32: jobs that are done with; their records may be used again. Only the owner reads and writes this and the following. */
export const JOBS_RELEASED = 1920;
/** u32: 1 while other workers may help. */
export const JOBS_SHARED = 1924;
/** u32: times that the owner had to sleep until a helper was done: there is no core for helpers. */
export const JOBS_STALLED = 1928;

/** u32 each: bytes of the frames that are held. */
export const HELD_LENGTHS = 1984;

/** The same by source: budgets, 16 bytes each. */
export const HANDSHAKE_SOURCE_BUDGETS = 2048;
export const HANDSHAKE_SOURCES = 128;
export const HANDSHAKE_BUDGET_SIZE = 16;

// ---- Scratch ------------------------------------------------------------------------------------------------------------------

/** Scratch of the AEAD. assembly/index.ts checks that it is large enough. */
export const SCRATCH = 4096;
export const SCRATCH_SIZE = 16384;

/** Descriptors of packets to seal (assembly/aead/abi.ts), eight bytes each. */
export const SEAL_DESCRIPTORS = SCRATCH + SCRATCH_SIZE;
export const MAX_SEAL = 256;

/** Descriptors of packets to open (assembly/aead/abi.ts), 24 bytes each. */
export const OPEN_DESCRIPTORS = SEAL_DESCRIPTORS + 8 * MAX_SEAL;
export const MAX_OPEN = 128;
/** u32 per packet to open: address of the aux record of the message that it came in. */
export const OPEN_MESSAGES = OPEN_DESCRIPTORS + 24 * MAX_OPEN;

/** u32 per packet to open: address of its session's record. */
export const OPEN_SESSIONS = OPEN_MESSAGES + 4 * MAX_OPEN;
/** u32 per packet to open: address of its key, while a batch has several. */
export const OPEN_KEYS = OPEN_SESSIONS + 4 * MAX_OPEN;
/** u32 and u64 per packet to seal: address of its key, and its counter. */
export const SEAL_KEYS = OPEN_KEYS + 4 * MAX_OPEN;
export const SEAL_COUNTERS = SEAL_KEYS + 4 * MAX_SEAL;

/** u32 each: addresses that are to be fetched into the cache (assembly/look-ahead.ts); as many as packets to open. */
export const TO_FETCH = SEAL_COUNTERS + 8 * MAX_SEAL;
/** u32 per frame that is held: what its route leads to. */
export const HELD_TARGETS = TO_FETCH + 4 * MAX_OPEN;

// ---- TUN ----------------------------------------------------------------------------------------------------------------------

/** Bytes of a virtio_net_hdr, which precedes every frame of the TUN device. */
export const VNET_HEADER_SIZE = 10;
/** Where read() puts the first frame: the packet behind the header begins at a multiple of 64. */
export const TUN_FRAME = 32768 + 64 - VNET_HEADER_SIZE;
/** Bytes of the largest frame. */
export const TUN_FRAME_CAPACITY = VNET_HEADER_SIZE + 65535;
/** A frame that is not larger than this, in bytes, leaves place for another one behind it. No power of two: frames would share the cache's sets. */
export const FRAME_PLACE = 2112;
/** Frames that there are places for. */
export const HELD_FRAMES = 16;

/** Frames for write(): u32 address, u32 length each. */
export const FRAMES = 32768 + 65536 + 4096 + (HELD_FRAMES - 1) * FRAME_PLACE;

// ---- Receiving ----------------------------------------------------------------------------------------------------------------

/** Messages that one recvmmsg() can fill. */
export const RECEIVE_MESSAGES = 32;
/** Most datagrams that one message is split into. The kernel's limit is 64 (UDP_GRO_CNT_MAX), 128 for local senders (UDP_MAX_SEGMENTS). */
export const RECEIVE_SEGMENTS = 256;
/** Bytes of a receive buffer: no datagram or train of datagrams is larger. */
export const RECEIVE_BUFFER_SIZE = 65536;
/** From one receive buffer to the next, in bytes: were it a power of two, the starts of all of them would share the cache's sets. */
export const RECEIVE_PLACE = RECEIVE_BUFFER_SIZE + 17 * 64;
/** Frames that one call of `inbound` can make. */
export const MAX_FRAMES = RECEIVE_MESSAGES * RECEIVE_SEGMENTS;

/** Bytes of a struct mmsghdr. */
export const MMSGHDR_SIZE = 64;
// struct msghdr within it, and what the kernel returns.
export const MSG_NAME = 0;
export const MSG_NAMELEN = 8;
export const MSG_IOV = 16;
export const MSG_IOVLEN = 24;
export const MSG_CONTROL = 32;
export const MSG_CONTROLLEN = 40;
export const MSG_FLAGS = 48;
/** u32: bytes received, or sent. */
export const MSG_LEN = 56;
/** struct iovec. */
export const IOV_BASE = 0;
export const IOV_LEN = 8;

/** What a message header points to: struct iovec (16), address (32), control messages. */
export const AUX_IOV = 0;
export const AUX_NAME = 16;
export const AUX_CONTROL = 48;
/** Bytes that a name may take. */
export const NAME_SIZE = 32;

/** Bytes per received message besides its header and buffer: iovec, address, control messages, and behind them */
export const RECEIVE_AUX_SIZE = 192;
/** u32: where the address lies that the message came to (4 or 16 bytes), 0 when it is unknown. */
export const AUX_LOCAL = 176;
/** Bytes of its control messages: room for UDP_GRO (24) and IPV6_PKTINFO (40). */
export const RECEIVE_CONTROL_SIZE = 128;

/** A family's receive area: headers, aux records, buffers. */
export const RECEIVE_HEADERS = 0;
export const RECEIVE_AUX = RECEIVE_HEADERS + MMSGHDR_SIZE * RECEIVE_MESSAGES;
export const RECEIVE_BUFFERS = RECEIVE_AUX + RECEIVE_AUX_SIZE * RECEIVE_MESSAGES;
/** Bytes of a receive area, with room behind the last buffer for reads that overshoot. */
export const RECEIVE_AREA_SIZE = RECEIVE_BUFFERS + RECEIVE_PLACE * RECEIVE_MESSAGES + 4096;

export const RECEIVE_4 = FRAMES + 8 * MAX_FRAMES;
export const RECEIVE_6 = RECEIVE_4 + RECEIVE_AREA_SIZE;

/** Where packets are coalesced. A run reserves `MERGED_FRAME_SIZE` while it is open. */
export const MERGED = RECEIVE_6 + RECEIVE_AREA_SIZE;
export const MERGED_SIZE = 4 * 1024 * 1024;
export const MERGED_FRAME_SIZE = 65536 + 256;

// ---- Sending ------------------------------------------------------------------------------------------------------------------

/** Messages of a transmit queue. */
export const TRANSMIT_MESSAGES = 2048;
/** Bytes of datagrams of a transmit queue. */
export const TRANSMIT_DATA_SIZE = 1024 * 1024;
/** A queue with fewer messages or bytes left than these is full: all frames that may be held must fit in what is left, the last one of any size. */
export const TRANSMIT_RESERVE_MESSAGES = 1400;
export const TRANSMIT_RESERVE_DATA = 256 * 1024;
/** Most datagrams of one message: UDP_MAX_SEGMENTS. */
export const MAX_SEGMENTS = 64;
/** Most bytes of one message: 65535 less IPv4 and UDP header. */
export const MAX_MESSAGE_SIZE = 65507;

/** Bytes per message besides its header and data: as for received messages, and behind them */
export const TRANSMIT_AUX_SIZE = 128;
/** u32: number of datagrams, */
export const AUX_SEGMENTS = 120;
/** u32: and bytes of each but the last. */
export const AUX_STRIDE = 124;

/** A family's transmit area: headers, aux records, the same for a message that is being split, data. */
export const TRANSMIT_HEADERS = 0;
export const TRANSMIT_AUX = TRANSMIT_HEADERS + MMSGHDR_SIZE * TRANSMIT_MESSAGES;
export const SPLIT_HEADERS = TRANSMIT_AUX + TRANSMIT_AUX_SIZE * TRANSMIT_MESSAGES;
export const SPLIT_AUX = SPLIT_HEADERS + MMSGHDR_SIZE * MAX_SEGMENTS;
export const TRANSMIT_DATA = SPLIT_AUX + TRANSMIT_AUX_SIZE * MAX_SEGMENTS;
export const TRANSMIT_AREA_SIZE = TRANSMIT_DATA + TRANSMIT_DATA_SIZE + 4096;

export const TRANSMIT_4 = MERGED + MERGED_SIZE;
export const TRANSMIT_6 = TRANSMIT_4 + TRANSMIT_AREA_SIZE;

// Header of a transmit queue.
/** u32: first waiting message. */
export const QUEUE_HEAD = 0;
/** u32: end of the messages. */
export const QUEUE_TAIL = 4;
/** u32: bytes of data used. */
export const QUEUE_DATA = 8;
/** u32: 1 when the queue is full in the sense of the reserves above. */
export const QUEUE_FULL = 12;
/** u32: `PATH_SERIAL` of the last message. */
export const QUEUE_SERIAL = 16;
/** u32: 1 while the last message can take another datagram: it exists, and its last datagram is not shorter than the others. */
export const QUEUE_OPEN = 20;
/** u32: first waiting datagram of the message that is being split, and end of them; equal when none is. */
export const QUEUE_SPLIT_HEAD = 24;
export const QUEUE_SPLIT_TAIL = 28;

// ---- Jobs ---------------------------------------------------------------------------------------------------------------------

/** Most packets of a job: two groups of the wide build's lanes. */
export const JOB_PACKETS = 16;
/** Records of jobs, a power of two. */
export const JOB_RECORDS = 256;

/** u32, atomic, in a line of its own: number of the job plus one when it is done. */
export const JOB_DONE = 0;
/** u32: 0 to seal, 1 to open. */
export const JOB_OPENS = 64;
/** u32: packets. */
export const JOB_COUNT = 68;
/** u32: address of the session record. */
export const JOB_SESSION = 72;
/** u32 each, for sealing: the family of the transmit queue, and the first of its messages that the packets are in. */
export const JOB_FAMILY = 76;
export const JOB_MESSAGE = 80;
/** u64, for sealing: counter of the first packet. */
export const JOB_COUNTER = 88;
/** Descriptors (assembly/aead/abi.ts), and for opening the entries of OPEN_MESSAGES. */
export const JOB_DESCRIPTORS = 96;
export const JOB_MESSAGES = JOB_DESCRIPTORS + 24 * JOB_PACKETS;
export const JOB_SIZE = 576;

export const JOBS = TRANSMIT_6 + TRANSMIT_AREA_SIZE;

// ---- Exception ring -----------------------------------------------------------------------------------------------------------
//
// One writer (the slot's thread), one reader (the main thread). Records are contiguous and start at multiples of 8; where the
// next one does not fit before the end of the ring, a record that is only a size and `RECORD_SKIP` leads back to the start.
//
//      0          tail                       head            RING_SIZE
//      |  free    | record | record | record |    free       |          positions count up for ever, modulo 2^32

export const RING = JOBS + JOB_SIZE * JOB_RECORDS;

/** Bytes of a record before its payload. */
export const RECORD_HEADER_SIZE = 64;
/** u32: bytes of the record, header and padding included. */
export const RECORD_LENGTH = 0;
/** u32: `Exception`, or `RECORD_SKIP`. */
export const RECORD_REASON = 4;
/** u32: connection slot, or `NONE`. */
export const RECORD_CONNECTION = 8;
/** u32: our receiver index: of the session concerned, or the unknown one. */
export const RECORD_INDEX = 12;
/** u32: 4 or 6: family of the addresses; 0: there are none. */
export const RECORD_FAMILY = 16;
/** u16, u16: ports. */
export const RECORD_LOCAL_PORT = 20;
export const RECORD_REMOTE_PORT = 22;
/** u32: bytes of payload. */
export const RECORD_PAYLOAD_LENGTH = 24;
/** u32: 1 when `RECORD_INDEX` means something. */
export const RECORD_HAS_INDEX = 28;
/** 16 bytes each: addresses, an IPv4 address in the first four. */
export const RECORD_LOCAL = 32;
export const RECORD_REMOTE = 48;
/** Reason of a record that fills the end of the ring. */
export const RECORD_SKIP = 0;
/** Bytes behind the ring that a copy may overshoot into. */
export const RING_SLACK = 64;
