// Work that workers share: batches of packets of a busy connection to be sealed or opened. The worker that has the packets, the owner,
// posts jobs on the board of its region; it and the others, the helpers, claim them in order, one at a time; the owner releases them in
// order. So packets stay in order, whoever did what. Counters are taken before a job is posted, and replay is checked when it is
// released. The owner does not become quiescent before its jobs are done: until then the keys stay where they are.
//
//      JOBS_RELEASED        JOBS_CLAIMED         JOBS_POSTED
//            |  done | begun | done | begun |  waiting  |
//            owner releases   ─────►   any worker claims   ─────►   owner posts

import { OPEN_DESCRIPTOR_SIZE, SEAL_DESCRIPTOR_SIZE } from "./aead/abi";
import { openPackets, sealPackets } from "./aead/index";
import { SESSION_RECEIVE_KEY, SESSION_SEND_KEY } from "./records";
import {
  JOB_COUNT,
  JOB_COUNTER,
  JOB_DESCRIPTORS,
  JOB_DONE,
  JOB_FAMILY,
  JOB_MESSAGE,
  JOB_MESSAGES,
  JOB_OPENS,
  JOB_PACKETS,
  JOB_RECORDS,
  JOB_SESSION,
  JOB_SIZE,
  JOBS,
  JOBS_CLAIMED,
  JOBS_POSTED,
  JOBS_RELEASED,
  JOBS_SHARED,
  JOBS_STALLED,
  SCRATCH,
} from "./regions";

/** Looks at a job that a helper has begun before the owner sleeps: a job takes some ten microseconds. */
const PATIENCE: u32 = 20000;
/** How long the owner sleeps then, in nanoseconds: the helper has lost its core. */
const NAP: i64 = 100_000;
/** Jobs after which a helper looks after its own sockets again. */
const HELP_LIMIT: u32 = 16;

/** Empties the board. */
export function initializeJobs(region: u32): void {
  memory.fill(region + JOBS_POSTED, 0, JOBS_STALLED + 4 - JOBS_POSTED);
  memory.fill(region + JOBS, 0, JOB_SIZE * JOB_RECORDS);
}

/** Whether others may help. */
export function isShared(region: u32): bool {
  return load<u32>(region, JOBS_SHARED) != 0;
}

/** Whether there are jobs that have not been released. */
export function hasJobs(region: u32): bool {
  return load<u32>(region, JOBS_RELEASED) != load<u32>(region, JOBS_POSTED);
}

/** Whether another job may be posted; if not, `nextJob` or `releaseJob` comes first. */
export function hasRoomForJob(region: u32): bool {
  return load<u32>(region, JOBS_POSTED) - load<u32>(region, JOBS_RELEASED) < <u32>JOB_RECORDS;
}

/** Posts packets to be sealed, in jobs: `descriptors` as for `sealPackets`, in the message `message` of a family's queue or later ones. */
export function postSealing(
  region: u32,
  session: u32,
  first: u64,
  descriptors: u32,
  count: u32,
  family: u32,
  message: u32,
): void {
  for (let at: u32 = 0; at < count; at += JOB_PACKETS) {
    const packets = min<u32>(JOB_PACKETS, count - at);
    if (!hasRoomForJob(region)) finishJobs(region);
    const job = newJob(region, 0, session, packets);
    store<u64>(job, first + at, JOB_COUNTER);
    store<u32>(job, family, JOB_FAMILY);
    store<u32>(job, message, JOB_MESSAGE);
    memory.copy(job + JOB_DESCRIPTORS, descriptors + at * SEAL_DESCRIPTOR_SIZE, packets * SEAL_DESCRIPTOR_SIZE);
    post(region);
  }
}

/** Posts a job: at most JOB_PACKETS packets to be opened. There must be room for it. */
export function postOpening(region: u32, session: u32, descriptors: u32, messages: u32, count: u32): void {
  const job = newJob(region, 1, session, count);
  memory.copy(job + JOB_DESCRIPTORS, descriptors, count * OPEN_DESCRIPTOR_SIZE);
  memory.copy(job + JOB_MESSAGES, messages, 4 * count);
  post(region);
}

/** The oldest job, if it is done; 0 if not. There must be one. */
export function oldestDone(region: u32): u32 {
  const number = load<u32>(region, JOBS_RELEASED);
  const job = jobAt(region, number);
  return atomic.load<u32>(job, JOB_DONE) == number + 1 ? job : 0;
}

/** The oldest job, done: works itself until it is, and sleeps at last. There must be one. */
export function awaitOldest(region: u32): u32 {
  const number = load<u32>(region, JOBS_RELEASED);
  const job = jobAt(region, number);
  let looks: u32 = 0;
  while (true) {
    const done = atomic.load<u32>(job, JOB_DONE);
    if (done == number + 1) return job;
    if (work(region, region + SCRATCH)) continue;
    if (++looks < PATIENCE) continue;
    looks = 0;
    store<u32>(region, load<u32>(region, JOBS_STALLED) + 1, JOBS_STALLED);
    atomic.wait<i32>(job + JOB_DONE, <i32>done, NAP);
  }
}

/** Gives the record of the oldest job, which is done, back. */
export function releaseOldest(region: u32): void {
  store<u32>(region, load<u32>(region, JOBS_RELEASED) + 1, JOBS_RELEASED);
}

/** Sees that all packets that are to be sealed are. Not for boards with packets to open: those are lost. */
export function finishJobs(region: u32): void {
  while (hasJobs(region)) {
    awaitOldest(region);
    releaseOldest(region);
  }
}

/** The first message of a family's queue that is not sealed yet; `none` if all are. */
export function firstUnsealed(region: u32, family: u32, none: u32): u32 {
  while (hasJobs(region) && oldestDone(region) != 0) releaseOldest(region);
  const posted = load<u32>(region, JOBS_POSTED);
  for (let number = load<u32>(region, JOBS_RELEASED); number != posted; number++) {
    const job = jobAt(region, number);
    if (load<u32>(job, JOB_FAMILY) == family) return load<u32>(job, JOB_MESSAGE);
  }
  return none;
}

/**
 * Does jobs of other regions: of `count` regions from `first` on, `size` bytes apart. Returns how many, after looking `patience` times
 * in vain.
 */
export function help(region: u32, first: u32, size: u32, count: u32, patience: u32): u32 {
  let done: u32 = 0;
  for (let idle: u32 = 0; idle < patience && done < HELP_LIMIT; idle++) {
    for (let i: u32 = 0; i < count; i++) {
      const board = first + i * size;
      if (board == region || !work(board, region + SCRATCH)) continue;
      done++;
      idle = 0;
    }
  }
  return done;
}

// ---- Details

/** Claims the next job of a board and does it. Returns false when there is none. */
function work(board: u32, scratch: u32): bool {
  const number = atomic.load<u32>(board, JOBS_CLAIMED);
  if (number == atomic.load<u32>(board, JOBS_POSTED)) return false;
  // Somebody else was faster: there may be another.
  if (atomic.cmpxchg<u32>(board, number, number + 1, JOBS_CLAIMED) != number) return true;
  const job = jobAt(board, number);
  const count = load<u32>(job, JOB_COUNT);
  const session = load<u32>(job, JOB_SESSION);
  if (load<u32>(job, JOB_OPENS)) openPackets(count, session + SESSION_RECEIVE_KEY, job + JOB_DESCRIPTORS, scratch);
  else sealPackets(count, session + SESSION_SEND_KEY, load<u64>(job, JOB_COUNTER), job + JOB_DESCRIPTORS, scratch);
  atomic.store<u32>(job, number + 1, JOB_DONE);
  return true;
}

function jobAt(region: u32, number: u32): u32 {
  return region + JOBS + (number & (JOB_RECORDS - 1)) * JOB_SIZE;
}

function newJob(region: u32, opens: u32, session: u32, count: u32): u32 {
  const job = jobAt(region, load<u32>(region, JOBS_POSTED));
  store<u32>(job, opens, JOB_OPENS);
  store<u32>(job, count, JOB_COUNT);
  store<u32>(job, session, JOB_SESSION);
  return job;
}

function post(region: u32): void {
  atomic.store<u32>(region, load<u32>(region, JOBS_POSTED) + 1, JOBS_POSTED);
}
