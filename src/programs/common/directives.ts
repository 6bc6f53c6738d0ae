// Filter directives of RUST_LOG (spec 05, section 2.1): which targets log from which level on.
//
//   directives = directive ("," directive)*
//   directive  = level | target | target "=" level | target "[" span "]" "=" level
//
// The directive with the longest target that is a prefix of a record's target, at a "::" boundary, decides; of equals the later one.

/** Levels, from nothing to everything. */
export const LOG_LEVELS = ["off", "error", "warn", "info", "debug", "trace"] as const;

/** A level of a filter. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What applies when nobody says anything (spec 05, section 2.1, "later fixed"). */
const DEFAULT_LEVEL: LogLevel = "info";

interface Directive {
  /** Empty: everything. */
  readonly target: string;
  readonly level: LogLevel;
}

/** Text that is no list of directives. */
export class DirectiveError extends Error {
  override readonly name = "DirectiveError";
}

/** A filter. */
export class LogFilter {
  readonly #directives: readonly Directive[];

  private constructor(directives: readonly Directive[]) {
    this.#directives = directives;
  }

  /** Parses directives; absent or empty: level `info`. @throws DirectiveError naming the part that cannot be read. */
  static parse(text: string | undefined): LogFilter {
    const parts = (text ?? "").split(",").map((part) => part.trim());
    const directives = parts.filter((part) => part !== "").map(parseDirective);
    return new LogFilter(directives.length > 0 ? directives : [{ target: "", level: DEFAULT_LEVEL }]);
  }

  /** The level from which on `target` logs. */
  levelOf(target: string): LogLevel {
    let best: Directive | undefined;
    for (const directive of this.#directives)
      if (covers(directive.target, target) && directive.target.length >= (best?.target.length ?? 0)) best = directive;
    return best?.level ?? "off";
  }
}

function covers(prefix: string, target: string): boolean {
  if (!target.startsWith(prefix)) return false;
  return prefix === "" || target.length === prefix.length || target.startsWith("::", prefix.length);
}

function parseDirective(text: string): Directive {
  const bare = toLevel(text);
  if (bare !== undefined) return { target: "", level: bare };
  // Spans are accepted and not looked at: wirelane has none.
  const [, target, levelText] = /^([A-Za-z0-9_:.-]+)(?:\[[^\]]*\])?(?:=([A-Za-z]+))?$/.exec(text) ?? [];
  const level = levelText === undefined ? "trace" : toLevel(levelText);
  if (target === undefined || level === undefined)
    throw new DirectiveError(
      `RUST_LOG: "${text}" is no directive: use LEVEL or TARGET=LEVEL, with ${LOG_LEVELS.join(", ")}`,
    );
  return { target, level };
}

function toLevel(text: string): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === text.toLowerCase());
}
