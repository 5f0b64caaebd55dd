module github.com/plexlb/caddy-plexlb/internal/e2e

go 1.26.0

require (
	github.com/letsencrypt/pebble/v2 v2.10.0
	github.com/miekg/dns v1.1.73
	github.com/plexlb/caddy-plexlb v0.0.0
	github.com/quic-go/quic-go v0.63.0
)

require (
	github.com/go-jose/go-jose/v4 v4.1.6 // indirect
	github.com/letsencrypt/challtestsrv v1.4.2 // indirect
	github.com/quic-go/qpack v0.6.0 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
)

replace github.com/plexlb/caddy-plexlb => ../..
