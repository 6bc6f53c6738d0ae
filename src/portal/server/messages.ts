// Frames of programs as the portal reads them (spec 01, section 4): JSON that may be anything.

/** A frame. */
export interface Message {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  /** Echoed in the reply with its JSON type. */
  readonly ref: unknown;
}

/** Parses a frame; `undefined` when it is no JSON object, or lacks one of the four keys. */
export function parseMessage(text: string): Message | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // Not JSON: the sender's mistake, hence a value.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const topic = stringField(value, "topic");
  const event = stringField(value, "event");
  if (topic === undefined || event === undefined || !hasField(value, "payload") || !hasField(value, "ref"))
    return undefined;
  return { topic, event, payload: field(value, "payload"), ref: field(value, "ref") };
}

/** Whether `value` is an object with this member. */
export function hasField(value: unknown, name: string): boolean {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name);
}

/** A member of an object; null when there is none. */
export function field(value: unknown, name: string): unknown {
  return hasField(value, name) ? (value as Record<string, unknown>)[name] : null;
}

/** A member that is a string. */
export function stringField(value: unknown, name: string): string | undefined {
  const text = field(value, name);
  return typeof text === "string" ? text : undefined;
}

/** The strings of a member that is a list; whatever else is in it is skipped. */
export function stringList(value: unknown, name: string): string[] {
  const list = field(value, name);
  return Array.isArray(list) ? list.filter((item): item is string => typeof item === "string") : [];
}
