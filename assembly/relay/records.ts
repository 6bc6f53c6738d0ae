// Layout of a relay's tables in the shared memory: sockets, and channels by either end (RFC 8656, section 12; design, section 1.1,
// "channels"). Compiled twice like assembly/records.ts: plain constants only, no imports. The main thread writes, workers read.
//
//    relay header ─► socket records, channel records
//       clients: hash (client's address, channel number)       ─► channel; with no number, 0: the client itself, if it has an allocation
//       peers:   hash (allocation's port, peer's address)      ─► channel

// ---- Header: addresses in the shared memory
/** u32 each: the records. */
export const RELAY_SOCKETS = 0;
export const RELAY_CHANNELS = 4;
/** u64: seed of the hashes. */
export const RELAY_SEED = 8;
/** u32, atomic: clients that were ever given an allocation, modulo 2^32. */
export const RELAY_ADMITTED = 16;
/** Headers of the hash tables (assembly/records.ts, `TABLE_…`), in lines of their own. */
export const RELAY_CLIENTS = 64;
export const RELAY_PEERS = 192;
export const RELAY_SIZE = 320;

// ---- Socket
/** i32, atomic: file descriptor; -1: closed. */
export const SOCKET_FD = 0;
/** u32 each: 4 or 6; port; 1 for the socket of an allocation, 0 for one that clients write to. */
export const SOCKET_FAMILY = 4;
export const SOCKET_PORT = 8;
export const SOCKET_IS_ALLOCATION = 12;
export const SOCKET_SIZE = 16;

// ---- Channel
/**
 * Keys of the tables, 24 bytes each: | port of the other side, as in a socket address, u16 | channel number, or port of the allocation, u16 |
 * family u32 | address, 16 bytes |.
 */
export const CHANNEL_CLIENT_KEY = 0;
export const CHANNEL_PEER_KEY = 24;
/** u16, big-endian: the number, as it is sent. */
export const CHANNEL_NUMBER = 48;
/** u32 each: numbers of the sockets from which to send to client and peer. */
export const CHANNEL_CLIENT_SOCKET = 52;
export const CHANNEL_PEER_SOCKET = 56;
/** Their addresses: u32 length, and struct sockaddr. */
export const CHANNEL_CLIENT_NAME_LENGTH = 60;
export const CHANNEL_PEER_NAME_LENGTH = 64;
/** u32: 1 when the peer is an allocation of this relay; then its channel to this allocation, if any, has this peer key. */
export const CHANNEL_MEETS = 68;
export const CHANNEL_MEETING_KEY = 136;
export const CHANNEL_CLIENT_NAME = 72;
export const CHANNEL_PEER_NAME = 104;
/** A client's budget (assembly/budget.ts) for requests, in the record of the client itself. Only the worker has to do with it. */
export const CLIENT_REQUESTS = 160;
export const CHANNEL_SIZE = 192;

// ---- Table entry: u32, number of the channel plus one; 0: none
export const CHANNEL_ENTRY_SIZE = 4;

// ---- In a region (assembly/regions.ts): what one call works with, in the place of the state of `inbound`
/** u64: payload forwarded since the start, bytes. */
export const RELAYED_BYTES = 512;
/** u32 each: messages to send, vectors used, runs of messages for one socket. */
export const OUT_MESSAGES = 768;
export const OUT_VECTORS = 772;
export const OUT_RUNS = 776;
/** u32 each: where the last message goes to; bytes of each of its datagrams but the last; datagrams; bytes; 1 while it takes more. */
export const OUT_NAME = 780;
export const OUT_STRIDE = 784;
export const OUT_SEGMENTS = 788;
export const OUT_BYTES = 812;
export const OUT_OPEN = 816;
/** u32: messages that the batch has received. */
export const IN_MESSAGES = 820;
/** A budget (assembly/budget.ts) for what the main thread is given besides requests. */
export const OTHER_BUDGET = 832;
/** Others for requests of clients that have an allocation, and of strangers. */
export const CLIENTS_BUDGET = 848;
export const STRANGERS_BUDGET = 864;
/** u32: how many of RELAY_ADMITTED have been paid back. */
export const STRANGERS_REPAID = 880;

/** Messages that a relay receives for a batch, as many as there are buffers, and datagrams of each that it forwards. */
export const RELAY_MESSAGES = 32;
export const RELAY_SEGMENTS = 128;

/** Run: i32 file descriptor, u32 first message, u32 messages. In the place of the frames. */
export const RUN_FD = 0;
export const RUN_FIRST = 4;
export const RUN_COUNT = 8;
export const OUT_RUN_SIZE = 12;
