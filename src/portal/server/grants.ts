// What a configuration grants (spec 01, sections 11.5 and 11.6): resources to actors, and the sites that lead to them.

import type { Configuration, ConfiguredResource } from "./configuration.js";
import { renderForClient, resourceId } from "./rendering.js";
import type { Version } from "./versions.js";

/** Answers to who may reach what, for one configuration. */
export class Grants {
  readonly configuration: Configuration;
  /** Actor → granted resources by id, in the file's order. */
  readonly #resources = new Map<string, ReadonlyMap<string, ConfiguredResource>>();

  constructor(configuration: Configuration) {
    this.configuration = configuration;
    const { actors, policies, resources } = configuration;
    for (const { name, groups } of actors) {
      const granted = new Set(
        policies
          .filter(({ actor, group }) => actor === name || (group !== undefined && groups.includes(group)))
          .map(({ resource }) => resource),
      );
      const list = resources.filter((resource) => granted.has(resource.name));
      this.#resources.set(name, new Map(list.map((resource) => [resourceId(resource), resource])));
    }
  }

  /** Resources that a policy grants to an actor, each once. */
  resourcesOf(actor: string): ConfiguredResource[] {
    return [...(this.#resources.get(actor)?.values() ?? [])];
  }

  /** A resource, if it is granted to the actor. */
  resource(actor: string, id: string | undefined): ConfiguredResource | undefined {
    return id === undefined ? undefined : this.#resources.get(actor)?.get(id);
  }

  /** Whether an actor may reach anything through a site. */
  mayMeet(actor: string, site: string): boolean {
    return this.resourcesOf(actor).some(({ sites }) => sites.includes(site));
  }
}

/** What a client of this version has to hear when other grants take the place of these. */
export function resourceChanges(
  before: Grants,
  after: Grants,
  actor: string,
  version: Version | undefined,
): { readonly deleted: string[]; readonly changed: object[] } {
  const render = (grants: Grants) =>
    new Map(
      grants
        .resourcesOf(actor)
        .flatMap((resource) => renderForClient(resource, version).map((json) => [resourceId(resource), json] as const)),
    );
  const old = render(before);
  const current = render(after);
  return {
    deleted: [...old.keys()].filter((id) => !current.has(id)),
    changed: [...current]
      .filter(([id, resource]) => JSON.stringify(old.get(id)) !== JSON.stringify(resource))
      .map(([, resource]) => resource),
  };
}
