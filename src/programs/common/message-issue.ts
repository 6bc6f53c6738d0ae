// What is wrong with a message of the portal, for the log: where and what kind, never its content, which may be secret.

/** An error of zod's, as far as it may be logged. */
interface MessageError {
  readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly code: string }[];
}

/** Path and kind of the first thing that is wrong. */
export function firstIssue({ issues }: MessageError): string {
  const [issue] = issues;
  return issue === undefined ? "unknown" : `${issue.path.map(String).join(".")}: ${issue.code}`;
}
