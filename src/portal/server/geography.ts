// Nearness of relays and gateways (spec 01, sections 11.1, 11.6 and 11.8).

/** A place in degrees. */
export interface Coordinates {
  readonly latitude: number;
  readonly longitude: number;
}

/** Mean radius of the earth in kilometres (spec 01, section 11.6). */
const EARTH_RADIUS = 6371;

/** Parses `lat,lon` of the header `x-geo-location-coordinates`; `undefined`: unknown. */
export function parseCoordinates(text: string | undefined): Coordinates | undefined {
  const match = /^\s*(-?\d{1,3}(?:\.\d{1,12})?)\s*,\s*(-?\d{1,3}(?:\.\d{1,12})?)\s*$/.exec(text ?? "");
  if (match === null) return undefined;
  const latitude = Number(match[1]);
  const longitude = Number(match[2]);
  return Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 ? { latitude, longitude } : undefined;
}

/** Great-circle distance in kilometres, by the haversine formula. */
export function distance(a: Coordinates, b: Coordinates): number {
  const radians = (degrees: number) => (degrees * Math.PI) / 180;
  const haversine = (angle: number) => Math.sin(angle / 2) ** 2;
  const h =
    haversine(radians(b.latitude - a.latitude)) +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * haversine(radians(b.longitude - a.longitude));
  return 2 * EARTH_RADIUS * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** Items grouped by place, the nearest place first; those whose place is unknown are the last group. */
export function groupByDistance<T extends { readonly location: Coordinates | undefined }>(
  items: readonly T[],
  here: Coordinates,
): T[][] {
  const groups = new Map<string, { readonly distance: number; readonly items: T[] }>();
  for (const item of items) {
    const { location } = item;
    const key = location === undefined ? "" : `${location.latitude},${location.longitude}`;
    const group = groups.get(key) ?? {
      distance: location === undefined ? Number.POSITIVE_INFINITY : distance(here, location),
      items: [],
    };
    group.items.push(item);
    groups.set(key, group);
  }
  return [...groups.values()].sort((a, b) => (a.distance < b.distance ? -1 : 1)).map((group) => group.items);
}
