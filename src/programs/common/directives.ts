// Filter directives of RUST_LOG (spec 05, section 2.1): which targets log from which level on.
//
//   directives = directive ("," directive)*
//   directive  = level | target | target "=" level | [target] "[" span ["{" field ["=" value] "}"] "]" ["=" level]
//
// The directive with the longest target that a record's target starts with decides; of equals the later one. A directive with a span is for
// records inside that span; wirelane has no spans, so it is checked and then matches nothing.

/** Levels, from nothing to everything. */
export const LOG_LEVELS = ["off", "error", "warn", "info", "debug", "trace"] as const;

/** A level of a filter. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What applies when nobody says anything (spec 05, section 2.1, "later fixed"). */
const DEFAULT_LEVEL: LogLevel = "info";
/** What the programs put before the user's directives. */
const PREPENDED = "netlink_proto=warn,os_info=warn,rustls=warn";

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
    const given = text === undefined || text.trim() === "" ? DEFAULT_LEVEL : text;
    // Values of span fields may contain commas.
    const parts = `${PREPENDED},${given}`.split(/,(?![^[]*\])/).map((part) => part.trim());
    const directives = parts.filter((part) => part !== "").map(parseDirective);
    return new LogFilter(directives.filter((directive) => directive !== undefined));
  }

  /** The level from which on `target` logs. */
  levelOf(target: string): LogLevel {
    let best: Directive | undefined;
    for (const directive of this.#directives)
      if (target.startsWith(directive.target) && directive.target.length >= (best?.target.length ?? 0))
        best = directive;
    return best?.level ?? "off";
  }
}

/** `undefined`: a directive that matches nothing. @throws DirectiveError */
function parseDirective(text: string): Directive | undefined {
  const bare = toLevel(text);
  if (bare !== undefined) return { target: "", level: bare };
  const [, target, span, levelText] = /^([\w:.-]*)(\[[^[\]]*\])?(?:=([A-Za-z]+))?$/.exec(text) ?? [];
  const level = levelText === undefined ? "trace" : toLevel(levelText);
  if (target === undefined || level === undefined || (target === "" && span === undefined))
    throw new DirectiveError(
      `RUST_LOG: "${text}" is no directive: use LEVEL or TARGET=LEVEL, with LEVEL one of ${LOG_LEVELS.join(", ")}`,
    );
  return span === undefined ? { target, level } : undefined;
}

function toLevel(text: string): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === text.toLowerCase());
}
