// Layout of the shared memory: the tables' records and every slot's own region, as offsets in bytes. Compiled twice, by
// AssemblyScript into the engine and by TypeScript into src/engine, so: plain constants only, no imports. What the tables mean
// is in ARCHITECTURE.md, "The packet engine"; where they lie is computed from capacities in src/engine/layout.ts.
//
//    page 0     the engine's static data (constants only)
//    shared     signal | routes | session index | sessions | replay rings | connections | paths | filters | filter sets | rules
//    slot 0     region of the main thread
//    slot 1..n  regions of the workers
//
// Numbers are little-endian unless a field is part of a packet or of a kernel structure that says otherwise.

// ---- Prefix tables: routes and filters ------------------------------------------------------------------------------------
//
// An open-addressing hash table with linear probing over (scope, family, prefix length, masked address). A lookup probes once
// for every prefix length that is present, longest first. Readers take no lock: the version is odd while the table is being
// written, and a reader that saw it odd or changed looks again.
//
//    header   | version | mask | entries | lengths (32) |
//    entry    | high u64 | low u64 | scope u32 | tag u32 | value u32 | - |

/** Bytes of a prefix table's header. */
export const TABLE_SIZE = 64;
/** u32, atomic: changes with every write, odd during one. */
export const TABLE_VERSION = 0;
/** u32: number of entries minus one; the number is a power of two. */
export const TABLE_MASK = 4;
/** u32: address of the entries. */
export const TABLE_ENTRIES = 8;
/** The lengths block of scope 0. Other scopes have theirs elsewhere (a filter set). */
export const TABLE_LENGTHS = 16;

/** Bytes of a lengths block: one bit per prefix length that has entries. */
export const LENGTHS_SIZE = 32;
/** u64, atomic: lengths 0 to 32 of IPv4 prefixes. */
export const LENGTHS_V4 = 0;
/** Three u64, atomic: lengths 0 to 128 of IPv6 prefixes. */
export const LENGTHS_V6 = 8;

/** Bytes of an entry of a prefix table. */
export const ENTRY_SIZE = 32;
/** u64: the first eight bytes of the address as a number (an IPv4 address is in the upper half). */
export const ENTRY_HIGH = 0;
/** u64: the last eight bytes of an IPv6 address as a number. */
export const ENTRY_LOW = 8;
/** u32: scope; 0 for routes, filter set + 1 for filters. */
export const ENTRY_SCOPE = 16;
/** u32: 0 for an empty entry, else `ENTRY_USED` | family << 8 | prefix length. */
export const ENTRY_TAG = 20;
/** u32: what the prefix leads to. */
export const ENTRY_VALUE = 24;
/** Bit of a tag in use. */
export const ENTRY_USED = 0x10000;

// ---- Session index ----------------------------------------------------------------------------------------------------------
//
// The same kind of hash table, from receiver index to session slot:
//
//    header   | version | mask | entries |            (the offsets TABLE_…)
//    entry    | local index u32 | session slot + 1 u32 |  (0: empty)

/** Bytes of an entry of the session index. Read and written as one u64, the local index in the lower half. */
export const INDEX_ENTRY_SIZE = 8;

// ---- Sessions ---------------------------------------------------------------------------------------------------------------

// What receives and what sends have a line each, so that a packet touches one of them, and the two directions, which may belong to
// different workers, do not write to one line. With many connections every line costs a cache miss.
//
//    0     | connection | state | receives until | next | newest word | receive key |
//    64    | remote index | local index | send counter | sends until | ring | - | send key |

/** Bytes of a session record. */
export const SESSION_SIZE = 128;
/** u32: slot of the connection. */
export const SESSION_CONNECTION = 0;
/** u32, atomic: the bits `SESSION_LOCKED` and `SESSION_CONFIRMED`. */
export const SESSION_STATE = 4;
/** f64: when the session stops receiving, milliseconds. */
export const SESSION_RECEIVES_UNTIL = 8;
/** u64, atomic: highest counter received, plus one. */
export const SESSION_NEXT = 16;
/** u64, atomic: the word of the replay window that holds the highest counter. */
export const SESSION_NEWEST = 24;
/** 32 bytes: key that opens. */
export const SESSION_RECEIVE_KEY = 32;
/** u32: receiver index of messages to the peer. */
export const SESSION_REMOTE_INDEX = 64;
/** u32: receiver index of messages to us. */
export const SESSION_LOCAL_INDEX = 68;
/** u64, atomic: counter of the next message to the peer. */
export const SESSION_SEND_COUNTER = 72;
/** f64: when the session stops sending, milliseconds. */
export const SESSION_SENDS_UNTIL = 80;
/** u32: address of the ring of the replay window. */
export const SESSION_RING = 88;
/** 32 bytes: key that seals. */
export const SESSION_SEND_KEY = 96;

/** State: a worker moves the replay window. */
export const SESSION_LOCKED = 1;
/** State: the peer is known to have the keys. */
export const SESSION_CONFIRMED = 2;

/** Bits of the replay window: counters this far behind the highest are still accepted once (spec 02, section 11.9; field notes 3). */
export const REPLAY_WINDOW = 8192;
/** Bits of the ring that holds the window (RFC 6479): a power of two, at least the window and two words. One for each session. */
export const REPLAY_RING_BITS = 16384;

/** Sessions older than this neither send nor receive: REJECT_AFTER_TIME, milliseconds (spec 02, section 11.8). */
export const REJECT_AFTER_TIME = 180000;

// ---- Connections ------------------------------------------------------------------------------------------------------------

// What sends and what receives have a line each, for the reasons that sessions have. The control plane writes what is not activity.
//
//    0     | active | session | path | - | sent at, data at | tx bytes, packets |
//    64    | checks | filters | moved | - | denied at | received at, data at | rx bytes, packets |

/** Bytes of a connection record. */
export const CONNECTION_SIZE = 128;
/** u32, atomic: 1 while the slot is in use. */
export const CONNECTION_ACTIVE = 0;
/** u32, atomic: slot of the session that sends, or `NONE`. */
export const CONNECTION_SESSION = 4;
/** u32, atomic: slot of the path, or `NONE`. */
export const CONNECTION_PATH = 8;
/** u32: what received packets must pass, the bits `CHECK_…`. Set once, before the slot is in use. */
export const CONNECTION_CHECKS = 64;
/** u32, atomic: slot of the filter set, or `NONE`: nothing is allowed. Only with `CHECK_FILTERS`. */
export const CONNECTION_FILTERS = 68;
/** u32, atomic: 1 when `EndpointMoved` was reported and the path has not been rewritten since. */
export const CONNECTION_MOVED = 72;
/** f64: when a packet that the filters do not allow was last reported; written by workers, a lost update is harmless. */
export const CONNECTION_DENIED_AT = 80;

// Activity: u64, atomic. Times are milliseconds, rounded down.
/** When a message was last sent. */
export const ACTIVITY_SENT_AT = 16;
/** When a message with a packet was last sent. */
export const ACTIVITY_SENT_DATA_AT = 24;
/** Bytes of transport messages sent (packet, header and tag). */
export const ACTIVITY_TX_BYTES = 32;
/** Transport messages sent. */
export const ACTIVITY_TX_PACKETS = 40;
/** When an authenticated message was last received. */
export const ACTIVITY_RECEIVED_AT = 88;
/** When an authenticated message with a packet was last received. */
export const ACTIVITY_RECEIVED_DATA_AT = 96;
/** Bytes of authenticated transport messages received. */
export const ACTIVITY_RX_BYTES = 104;
/** Authenticated transport messages received. */
export const ACTIVITY_RX_PACKETS = 112;

/** Check: the destinations of packets, by the connection's filters. */
export const CHECK_FILTERS = 1;
/** Check: whether messages come from the path's remote address; report it when they do not (WireGuard's roaming). */
export const CHECK_ENDPOINT = 2;

// ---- Touched connections: a bit for each connection slot, set when its activity changes, cleared by the control plane --------------

/** Bits of a word, u32, atomic. */
export const TOUCHED_BITS = 32;

// ---- Paths: kernel structures ready to be copied into a message header -----------------------------------------------------------
//
// All that a path of IPv4 has lies in one line; the name of one of IPv6 begins the second.
//
//    | serial | family | channel | lengths | control message (32) | name (16) |                  IPv4
//    | serial | family | channel | lengths | control message (40)   - | name (28) |              IPv6

/** Bytes of a path record. */
export const PATH_SIZE = 128;
/** u32: different for every path ever written (modulo 2^32), so that messages of a path can be told from those of a later one in the same slot. */
export const PATH_SERIAL = 0;
/** u32: 4 or 6. */
export const PATH_FAMILY = 4;
/** u32: channel number that the relay at the remote address forwards, 0: direct. */
export const PATH_CHANNEL = 8;
/** u16: bytes of the remote address. */
export const PATH_NAME_LENGTH = 12;
/** u16: bytes of the control message that selects the local address; 0: the kernel chooses. */
export const PATH_CONTROL_LENGTH = 14;
/** cmsghdr with in_pktinfo (32 bytes) or in6_pktinfo (40 bytes). */
export const PATH_CONTROL = 16;
/** sockaddr_in: the remote address, */
export const PATH_NAME_4 = 48;
/** or sockaddr_in6. */
export const PATH_NAME_6 = 64;

// ---- Filters --------------------------------------------------------------------------------------------------------------------
//
// A filter set belongs to one connection and is replaced as a whole. Its prefixes are entries of the filter table in the scope
// "set + 1"; their value is the address of a rule list in the rules pool, or ALLOW_ALL. Rule lists are normalised: ranges are
// disjoint and ascending, TCP before UDP.
//
//    rule list   | tcp count u16 | udp count u16 | icmp u32 | range … |       range: first port u16, last port u16

/** Bytes of a filter set: a lengths block. */
export const FILTER_SET_SIZE = 32;
/** Value of a filter entry that allows everything. */
export const ALLOW_ALL = 0;
/** Bytes of the unit in which the rules pool is given out. */
export const RULES_UNIT = 64;
/** u16: number of TCP ranges. */
export const RULES_TCP = 0;
/** u16: number of UDP ranges. */
export const RULES_UDP = 2;
/** u32: 1 when ICMP and ICMPv6 are allowed. */
export const RULES_ICMP = 4;
/** The ranges: u16 first port, u16 last port. */
export const RULES_RANGES = 8;
/** Bytes of a range. */
export const RULES_RANGE_SIZE = 4;

// ---- Door -----------------------------------------------------------------------------------------------------------------------
//
// What handshake messages must prove before the control plane sees them (assembly/handshake-door.ts). One per process, for the one
// static key it has.

/** Bytes of the door. */
export const DOOR_SIZE = 64;
/** BLAKE2s after the block that holds the key of mac1: eight u32. */
export const DOOR_STATE = 0;
/** u32, atomic: 1 while mac1 is checked. */
export const DOOR_CHECKS = 32;
/** u64: random, so that nobody can choose addresses that share a budget. */
export const DOOR_SEED = 40;
