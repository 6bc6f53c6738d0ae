// The ICE agent: finds the addresses over which two sides can talk, and keeps checking them (RFC 8445, full agent, trickle, one
// component; spec 02, section 10). In short:
//
//   - Every local candidate is paired with every remote one of its IP version; all pairs are checked at once and for ever.
//   - The controlling side nominates the best pair that works, the first one at once and every better one later, by USE-CANDIDATE.
//   - The controlled side uses the best pair that was nominated.
//   - A pair that is not answered for about ten seconds is dead. Nominated pairs stay nominated: the best one left takes over.
//
// There is no frozen state, no pacing, no end of candidates, no restart; roles are fixed, so role conflicts do not occur and error
// responses mean nothing. Peer-reflexive candidates of our own would be neither paired nor signalled and are not kept.

import type { SocketAddress } from "../base/address.js";
import { toHex } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import { EventQueue } from "../base/event-queue.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import type { Transmit } from "../base/state-machine.js";
import { type Duration, earliest, type Instant } from "../base/time.js";
import { TRANSACTION_ID_LENGTH } from "../stun/header.js";
import { shortTermKey } from "../stun/integrity.js";
import type { StunMessage } from "../stun/message.js";
import { type AcceptedMessage, type AcceptedRequest, acceptMessage } from "./acceptance.js";
import { type Candidate, candidatePriority, localPreferenceOf } from "./candidate.js";
import { type Addition, type ListedCandidate, LocalCandidates, RemoteCandidates } from "./candidate-list.js";
import { buildRequest, buildResponse } from "./check-messages.js";
import type { CheckPace } from "./check-schedule.js";
import { Checklist } from "./checklist.js";
import { FRESH_PAIR_TIMEOUT, MAX_QUEUED_REQUESTS, MAX_QUEUED_TRANSMITS, MAX_REPORTED_SOURCES } from "./constants.js";
import { generateCredentials, type IceCredentials } from "./credentials.js";
import type { IceDispatcher } from "./dispatcher.js";
import type { IceAgentOptions, IceEvent, IceState } from "./events.js";
import type { CandidatePair, IceRole } from "./pair.js";

/** Length of the tie-breaker in bytes. */
const TIE_BREAKER_LENGTH = 8;

interface QueuedRequest {
  readonly request: AcceptedRequest;
  readonly local: SocketAddress;
  readonly from: SocketAddress;
  readonly receivedAt: Instant;
}

/** One side of one connection. */
export class IceAgent {
  readonly role: IceRole;
  readonly localCredentials: IceCredentials;

  readonly #crypto: Crypto;
  readonly #random: Random;
  readonly #dispatcher: IceDispatcher;
  readonly #tieBreaker: Uint8Array;
  readonly #localKey: Uint8Array;
  #remote: { readonly credentials: IceCredentials; readonly key: Uint8Array } | undefined;

  readonly #localCandidates = new LocalCandidates();
  readonly #remoteCandidates = new RemoteCandidates();
  readonly #checklist: Checklist;
  /** Checks that may still be answered. */
  readonly #transactions = new Map<string, CandidatePair>();
  #selected: CandidatePair | undefined;
  #state: IceState = "checking";
  #pace: CheckPace = "eager";

  /** Requests that came before the other side's credentials. */
  readonly #requests = new BoundedQueue<QueuedRequest>(MAX_QUEUED_REQUESTS, "drop-oldest");
  readonly #sources = new Set<string>();
  readonly #transmits = new BoundedQueue<Transmit>(MAX_QUEUED_TRANSMITS, "drop-oldest");
  readonly #events = new EventQueue<IceEvent>();

  constructor(options: IceAgentOptions) {
    this.role = options.role;
    this.#crypto = options.crypto;
    this.#random = options.random;
    this.#dispatcher = options.dispatcher;
    this.#checklist = new Checklist(options.role);
    this.#tieBreaker = options.random.bytes(TIE_BREAKER_LENGTH);
    let credentials = options.credentials ?? generateCredentials(options.random);
    while (options.credentials === undefined && options.dispatcher.has(credentials.username))
      credentials = generateCredentials(options.random);
    this.localCredentials = credentials;
    this.#localKey = shortTermKey(credentials.password);
    this.#dispatcher.addAgent(this);
  }

  get state(): IceState {
    return this.#state;
  }

  /** Whether the other side has ever shown a candidate, signalled or by sending from it. */
  get knowsRemoteCandidates(): boolean {
    return this.#remoteCandidates.everKnown;
  }

  /** Messages and candidates that did not fit into the agent's bounded queues and lists. */
  get dropped(): number {
    const { refused: local } = this.#localCandidates;
    return local + this.#remoteCandidates.refused + this.#requests.dropped + this.#transmits.dropped;
  }

  /** The pairs, best first: for diagnostics. */
  get pairs(): readonly Readonly<CandidatePair>[] {
    return this.#checklist.pairs;
  }

  /** Active candidates of this side with the priorities that they have here: for diagnostics. */
  get localCandidates(): readonly Candidate[] {
    return this.#localCandidates.active.map((entry) => entry.candidate);
  }

  /** Active candidates of the other side: for diagnostics. */
  get remoteCandidates(): readonly Candidate[] {
    return this.#remoteCandidates.active.map((entry) => entry.candidate);
  }

  /** Starts checking: from now on it is known whom to ask. `credentials` must be usable (`areUsable`). */
  setRemoteCredentials(credentials: IceCredentials): void {
    this.#remote = { credentials, key: shortTermKey(credentials.password) };
  }

  /** Adds a candidate of this side. Returns false when it is redundant, and not to be signalled. */
  addLocalCandidate(candidate: Candidate, now: Instant): boolean {
    const addition = this.#localCandidates.add(candidate);
    if (addition === undefined) return false;
    if (addition.replaced !== undefined) this.#removePairsOf(addition.replaced);
    for (const remote of this.#remoteCandidates.active) this.#pair(addition.entry, remote, now);
    this.#evaluate(now);
    return true;
  }

  /**
   * Adds a candidate that the other side signalled. Returns false when it is known.
   *
   * @param username the user fragment that the candidate states; one that is not the other side's makes it a stranger's.
   */
  addRemoteCandidate(candidate: Candidate, now: Instant, username?: string): boolean {
    const expected = this.#remote?.credentials.username;
    if (username !== undefined && expected !== undefined && username !== expected) return false;
    const addition: Addition | undefined = this.#remoteCandidates.add(candidate);
    if (addition === undefined) return false;
    for (const local of this.#localCandidates.active) this.#pair(local, addition.entry, now);
    this.#evaluate(now);
    return true;
  }

  /** A candidate of this side is gone. Returns whether it was there. */
  removeLocalCandidate(candidate: Candidate, now: Instant): boolean {
    // The priority in the list is another than the signalled one, which does not matter for finding it.
    return this.#invalidated(this.#localCandidates.invalidate(candidate), now);
  }

  /** A candidate of the other side is gone. Returns whether it was there. */
  removeRemoteCandidate(candidate: Candidate, now: Instant): boolean {
    return this.#invalidated(this.#remoteCandidates.invalidate(candidate), now);
  }

  /** Changes how often pairs that work are checked. */
  setPace(pace: CheckPace, now: Instant): void {
    this.#pace = pace;
    for (const pair of this.#checklist.pairs) pair.schedule.setPace(pace, now);
  }

  /** Round-trip time of the pair in use, by its last check. */
  get roundTrip(): Duration {
    return this.#selected?.roundTrip ?? 0;
  }

  /** Checks everything that has worked, or the pair in use, once more and at once. */
  ask(which: "all" | "selected", now: Instant): void {
    if (which === "selected") this.#selected?.schedule.expedite(now);
    else for (const pair of this.#checklist.pairs) if (pair.state === "succeeded") pair.schedule.expedite(now);
  }

  /** Whether a pair other than the one in use has answered since then. */
  hasAlternative(since: Instant): boolean {
    return this.#checklist.pairs.some((pair) => pair !== this.#selected && pair.answeredAt >= since);
  }

  /** Traffic shows that the pair in use is dead: uses one that has answered since `since` instead, or none until one answers. */
  suspect(since: Instant, now: Instant): void {
    for (const pair of this.#checklist.pairs) if (pair.answeredAt < since) pair.isSuspect = true;
    this.#evaluate(now);
  }

  /** Checks that a message is for this agent and from the other side; `undefined` when it is not. */
  accept(message: StunMessage): AcceptedMessage | undefined {
    const remote = this.#remote && { username: this.#remote.credentials.username, key: this.#remote.key };
    const local = { username: this.localCredentials.username, key: this.#localKey };
    const isAwaited = (transaction: string) => this.#transactions.has(transaction);
    return acceptMessage(message, { local, remote, isAwaited }, this.#crypto);
  }

  /** Takes an accepted message that arrived on `local` from `from`. */
  handleInput(message: AcceptedMessage, local: SocketAddress, from: SocketAddress, now: Instant): void {
    this.#reportSource(from);
    switch (message.type) {
      case "request":
        if (this.#remote === undefined) this.#requests.push({ request: message, local, from, receivedAt: now });
        else this.#handleRequest(message, local, from, now);
        return;
      case "response":
        this.#handleResponse(message.transaction, now);
        return;
    }
  }

  /** Answers what has waited, removes dead pairs and sends the checks that are due. */
  handleTimeout(now: Instant): void {
    if (this.#remote === undefined) return;
    for (const { request, local, from, receivedAt } of this.#requests.drain()) {
      if (now - receivedAt <= FRESH_PAIR_TIMEOUT && request.sender === this.#remote.credentials.username)
        this.#handleRequest(request, local, from, now);
    }
    this.#forget(this.#checklist.removeIf((pair) => pair.schedule.isDead(now)));
    this.#evaluate(now);
    const due = this.#checklist.pairs.filter((pair) => pair.schedule.nextAt <= now);
    // Nominations go first, then the best pairs.
    for (const pair of due) if (pair.nomination === "nominated") this.#check(pair, now);
    for (const pair of due) if (pair.schedule.nextAt <= now) this.#check(pair, now);
  }

  /** When {@link handleTimeout} is wanted next. In the past or present: at once. */
  pollTimeout(): Instant | undefined {
    if (this.#remote === undefined) return undefined;
    let next: Instant | undefined;
    for (const pair of this.#checklist.pairs) next = earliest(next, pair.schedule.nextAt);
    for (const { receivedAt } of this.#requests) next = earliest(next, receivedAt);
    return next;
  }

  /** The next STUN message to send; its `source` is a candidate's base. */
  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): IceEvent | undefined {
    return this.#events.shift();
  }

  /** Ends the agent: nothing is found or sent any more. */
  close(): void {
    this.#forget(this.#checklist.removeIf(() => true));
    this.#dispatcher.removeAgent(this);
    this.#requests.clear();
    this.#transmits.clear();
    this.#events.clear();
  }

  #handleRequest(request: AcceptedRequest, local: SocketAddress, from: SocketAddress, now: Instant): void {
    // Only the controlling side nominates.
    if (request.useCandidate && this.role === "controlling") return;
    const localEntry = this.#localCandidates.receiving(local);
    if (localEntry === undefined) return;
    const known = this.#remoteCandidates.from(from);
    // The other side has said that it is not there any more: what still comes from there is old.
    if (known === "discarded") return;
    const remoteEntry = known ?? this.#remoteCandidates.addPeerReflexive(from, request.priority);
    if (remoteEntry === undefined) return;

    const { base } = localEntry.candidate;
    const payload = buildResponse(request.transactionId, from, this.localCredentials, this.#crypto);
    this.#transmits.push({ source: base, destination: from, payload });

    this.#pair(localEntry, remoteEntry, now);
    const pair = this.#checklist.get(localEntry, remoteEntry);
    if (pair !== undefined && request.useCandidate && pair.nomination === "none") {
      pair.nomination = "nominated";
      pair.schedule.expedite(now);
    }
    // Triggered check (RFC 8445, section 7.3.1.4): our first check may have met a NAT on the other side that this request has now opened. One
    // is enough; more would use up the checks after which a pair is dead.
    if (pair !== undefined && pair.state === "in-progress" && !pair.wasTriggered) {
      pair.wasTriggered = true;
      pair.schedule.expedite(now);
    }
    this.#evaluate(now);
  }

  #handleResponse(transaction: string, now: Instant): void {
    const pair = this.#transactions.get(transaction);
    const attempt = pair?.schedule.handleAnswer(transaction, now);
    this.#forgetTransaction(transaction);
    if (pair === undefined || attempt === undefined) return;
    pair.state = "succeeded";
    pair.answeredAt = now;
    pair.roundTrip = now - attempt.sentAt;
    pair.isSuspect = false;
    if (pair === this.#selected) this.#events.push({ type: "path-answered" });
    if (attempt.nominating && pair.nomination === "attempt") pair.nomination = "success";
    this.#evaluate(now);
  }

  /** Sends a connectivity check. */
  #check(pair: CandidatePair, now: Instant): void {
    if (this.#remote === undefined) return;
    const { candidate: local } = pair.local;
    const { candidate: remote } = pair.remote;
    const transactionId = this.#random.bytes(TRANSACTION_ID_LENGTH);
    const payload = buildRequest(
      {
        transactionId,
        local: this.localCredentials,
        remote: this.#remote.credentials,
        role: this.role,
        tieBreaker: this.#tieBreaker,
        priority: candidatePriority("prflx", localPreferenceOf(local.priority)),
        useCandidate: this.role === "controlling" && pair.isNominated,
      },
      this.#crypto,
    );
    this.#transmits.push({ source: local.base, destination: remote.address, payload });

    const transaction = toHex(transactionId);
    this.#transactions.set(transaction, pair);
    this.#dispatcher.addTransaction(transaction, this);
    const forgotten = pair.schedule.handleSent(transaction, pair.isNominated, now);
    if (forgotten !== undefined) this.#forgetTransaction(forgotten.transaction);
    if (pair.state === "waiting") pair.state = "in-progress";
    if (pair.nomination === "nominated") pair.nomination = "attempt";
  }

  #pair(local: ListedCandidate, remote: ListedCandidate, now: Instant): void {
    this.#forget(this.#checklist.add(local, remote, now));
    this.#checklist.get(local, remote)?.schedule.setPace(this.#pace, now);
  }

  #invalidated(entry: ListedCandidate | undefined, now: Instant): boolean {
    if (entry === undefined) return false;
    this.#removePairsOf(entry);
    // The same way may still exist between other candidates: a host without NAT has a reflexive one with the same address.
    for (const local of this.#localCandidates.active)
      for (const remote of this.#remoteCandidates.active) this.#pairIfSignalled(local, remote, now);
    this.#evaluate(now);
    return true;
  }

  #pairIfSignalled(local: ListedCandidate, remote: ListedCandidate, now: Instant): void {
    if (remote.candidate.kind !== "prflx") this.#pair(local, remote, now);
  }

  #removePairsOf(entry: ListedCandidate): void {
    this.#forget(this.#checklist.removeIf((pair) => pair.local === entry || pair.remote === entry));
  }

  /** Drops what refers to removed pairs. */
  #forget(pairs: readonly CandidatePair[]): void {
    for (const pair of pairs) {
      for (const transaction of pair.schedule.pending()) this.#forgetTransaction(transaction);
      if (pair === this.#selected) this.#selected = undefined;
    }
  }

  #forgetTransaction(transaction: string): void {
    this.#transactions.delete(transaction);
    this.#dispatcher.removeTransaction(transaction);
  }

  /** Draws the conclusions of whatever has changed. */
  #evaluate(now: Instant): void {
    this.#nominate(now);
    const { pairs } = this.#checklist;
    const nominated = pairs.some((pair) => pair.isNominated);
    const hope =
      pairs.some((pair) => !pair.isNominated) ||
      !this.#remoteCandidates.everKnown ||
      // Not "later fixed" by the book: without candidates of our own nothing has failed yet (spec 02, section 10.6).
      !this.#localCandidates.everKnown;
    const state: IceState = nominated ? (hope ? "connected" : "completed") : hope ? "checking" : "disconnected";
    if (state === this.#state) return;
    this.#state = state;
    this.#events.push({ type: "state-changed", state });
  }

  /** Selects the best pair that works (controlling) or was nominated (controlled), if it is better than the one selected. */
  #nominate(now: Instant): void {
    const works = (pair: CandidatePair) =>
      this.role === "controlling" ? pair.state === "succeeded" : pair.isNominated;
    const best = this.#checklist.pairs.find((pair) => works(pair) && !pair.isSuspect);
    if (best === undefined && this.#selected?.isSuspect === true) {
      this.#selected = undefined;
      this.#events.push({ type: "path-lost" });
    }
    if (best === undefined || best === this.#selected) return;
    const isBetter =
      this.#selected === undefined || this.#selected.isSuspect || best.priority > this.#selected.priority;
    if (!isBetter) return;
    this.#selected = best;
    this.#events.push({
      type: "path-nominated",
      local: best.local.candidate.base,
      remote: best.remote.candidate.address,
    });
    if (this.role === "controlled" || best.nomination !== "none") return;
    // The other side learns of it right now, ahead of whatever our owner sends over the path.
    best.nomination = "nominated";
    this.#check(best, now);
  }

  #reportSource(source: SocketAddress): void {
    if (this.#sources.has(source.key) || this.#sources.size >= MAX_REPORTED_SOURCES) return;
    this.#sources.add(source.key);
    this.#events.push({ type: "source-discovered", source });
  }
}
