// The file that `wirelane portal --example` prints: every field, explained.

/** A configuration with comments. Tokens are to be replaced. */
export const EXAMPLE_CONFIGURATION = `# A portal: who may reach what. Read again whenever it changes.

# Places with gateways. Every gateway of a site can reach its resources. A gateway signs in with one of the site's tokens:
# make them with \`openssl rand -hex 32\`.
sites:
  - name: office
    tokens: [replace-this-gateway-token]

# Who has clients. A token may have an end.
actors:
  - name: alice
    groups: [engineering]
    tokens:
      - replace-this-client-token
      - { token: replace-this-temporary-token, expires_at: "2030-01-01T00:00:00Z" }

# What can be reached. Types: cidr (a network), ip (an address), dns (a name; **, * and ? allowed),
# internet (everything).
resources:
  - name: intranet
    type: cidr
    address: 10.20.0.0/16
    sites: [office]
  - name: database
    type: cidr
    address: 10.30.0.5/32
    sites: [office]
    # Without filters everything is permitted.
    filters:
      - { protocol: tcp, ports: [5432, 8000-8100] }
      - icmp

# Who may reach what: an actor or a group, and a resource.
policies:
  - { group: engineering, resource: intranet }
  - { actor: alice, resource: database }

# Relays: tokens for relays that sign in, or relays with fixed credentials.
relays:
  tokens: []
  static: []

# DNS servers for clients, with or without port.
upstream_dns: []

# Reverse proxies in front of the portal, as networks: what they say of where a program is (X-Forwarded-For,
# x-geo-location-coordinates) is believed.
trusted_proxies: []
`;
