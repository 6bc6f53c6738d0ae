// Events of a state machine that wait for its owner, who takes all of them after every input (state-machine.ts). None may be lost: the owner's tables
// follow from them. So there is no capacity; how many an input can cause is bounded by the state machine's own tables.

/** A first-in first-out queue that is emptied before the next input. Taking one of many costs no more than taking the only one. */
export class EventQueue<Event> {
  #events: Event[] = [];
  /** How many of them have been taken. */
  #taken = 0;

  /** Appends an event. */
  push(event: Event): void {
    this.#events.push(event);
  }

  /** Takes the oldest event. */
  shift(): Event | undefined {
    const event = this.#events[this.#taken];
    if (event === undefined) {
      this.clear();
      return undefined;
    }
    this.#taken++;
    return event;
  }

  /** Forgets all events. */
  clear(): void {
    this.#events = [];
    this.#taken = 0;
  }
}
