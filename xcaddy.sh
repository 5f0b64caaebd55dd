#!/bin/sh
# Builds Caddy with plexlb from this working tree, runs it, shows it, tests it.
# Needs Go, and nothing else.
set -eu
here=$PWD
cd "$(dirname "$0")"

# What an argument means where the caller stands.
absolute() {
	case $1 in
	/*) echo "$1" ;;
	*) echo "$here/$1" ;;
	esac
}

caddy_version=v2.11.9
# Plug-ins, one a line: a module and the version to build. Where that cannot be
# fetched, the next in the line is built.
with='
github.com/caddy-dns/duckdns v0.5.0
github.com/mholt/caddy-dynamicdns v0.0.0-20260805195708-67d107a42c02 v0.0.0-20251020155855-d8f490a28db6
'

usage() {
	cat >&2 <<-'EOT'
		usage: ./xcaddy.sh build [output]     build Caddy with plexlb (default: bin/caddy)
		       ./xcaddy.sh run [Caddyfile]    build and run it (default: ./Caddyfile)
		       ./xcaddy.sh demo [--stay]      three stand-in servers, thirty viewers, one minute
		       ./xcaddy.sh test               format, vet, staticcheck, tests, examples
		       ./xcaddy.sh test --e2e         the built Caddy with a real ACME server, HTTP/1.1, 2 and 3, a browser and players;
		                                      faults, reloads and junk for three minutes
		       ./xcaddy.sh test --soak [time] the last for so long (default: 30m), from 10m on with 500 viewers and without the
		                                      race detector; PLEXLB_SOAK_SEED and PLEXLB_SOAK_VIEWERS repeat a run or change
		                                      the crowd
		       ./xcaddy.sh bench [--long]     measure costs and behaviour, into BENCHMARKS.md
	EOT
	exit 2
}

# What goes into the binary, in one line: it is built anew when this changes.
fingerprint() {
	{
		echo "$caddy_version" "$with"
		go env GOVERSION GOOS GOARCH
		cksum go.mod go.sum
		go list -deps -f '{{if .Module}}{{if .Module.Main}}{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$dir}}/{{.}}
{{end}}{{end}}{{end}}' . | while IFS= read -r f; do [ -z "$f" ] || cksum "${f#"$PWD/"}"; done
	} | cksum
}

# The first of a module's versions that can be fetched, as module@version.
fetchable() {
	module=$1
	shift
	for version; do
		if (cd / && go mod download "$module@$version") >>"$output.log" 2>&1; then
			echo "$module@$version"
			return
		fi
	done
	return 1
}

# A plug-in that cannot be fetched is left out, loudly: the balancer works
# without it.
build() {
	output=$1
	stamp=$(dirname "$output")/.$(basename "$output").built
	now=$(fingerprint)
	if [ -x "$output" ] && [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$now" ]; then
		sed 1d "$stamp" >&2
		return
	fi
	mkdir -p "$(dirname "$output")"
	rm -f "$stamp"
	echo "building Caddy $caddy_version with plexlb; the first time this takes some minutes" >&2
	set -- --with github.com/plexlb/caddy-plexlb@v0.0.0=.
	holds=
	while read -r module versions; do
		[ -n "$module" ] || continue
		: >"$output.log"
		# shellcheck disable=SC2086 # one argument each
		if plugin=$(fetchable "$module" $versions); then
			set -- "$@" --with "$plugin"
			holds="${holds}$output holds $plugin
"
		else
			cat "$output.log" >&2
			holds="${holds}warning: $output lacks $module, which could not be fetched; delete $output to try again
"
		fi
	done <<-EOT
		$with
	EOT
	if ! go tool xcaddy build "$caddy_version" "$@" --output "$output" >"$output.log" 2>&1; then
		cat "$output.log" >&2
		echo "the build failed; its output is above and in $output.log" >&2
		exit 1
	fi
	rm -f "$output.log"
	printf '%s\n%s' "$now" "$holds" >"$stamp"
	printf '%s' "$holds" >&2
}

step() { printf '\n== %s\n' "$*"; }

tests() {
	step gofmt
	unformatted=$(gofmt -l .)
	if [ -n "$unformatted" ]; then
		echo "run gofmt -w on:" >&2
		echo "$unformatted" >&2
		exit 1
	fi
	step go vet
	go vet ./...
	(cd internal/e2e && go vet ./...)
	(cd internal/e2e/deploy && go vet ./...)
	step staticcheck
	go tool staticcheck ./...
	staticcheck=$(go tool -n staticcheck)
	(cd internal/e2e && "$staticcheck" ./...)
	(cd internal/e2e/deploy && "$staticcheck" ./...)
	step tests
	mkdir -p bin
	# Those through a real Caddy mostly wait: four parts side by side take a quarter
	# of the time.
	parts=
	for part in A-D E-L M-R S-Z; do
		go test -race -timeout 12m -run "^Test[$part]" ./internal/integration >"bin/$part.log" 2>&1 &
		parts="$parts $part=$!"
	done
	failed=
	for part in $parts; do
		wait "${part#*=}" || failed=1
		cat "bin/${part%=*}.log"
	done
	[ -z "$failed" ] || exit 1
	go list ./... | grep -v /internal/integration$ | xargs go test -race -timeout 9m
	step memory, which the race detector distorts, and balance, which takes too long with it
	go test -count=1 -run TestAMillionPlaybacksTakeLessThanAKiBEach ./internal/cluster
	go test -count=1 -timeout 9m ./internal/bench/balance
	step examples
	build bin/caddy
	# What the examples take from the environment.
	DUCKDNS_DOMAIN=example DUCKDNS_TOKEN=00000000-0000-0000-0000-000000000000 ADMIN_HASH='$2a$04$anything'
	export DUCKDNS_DOMAIN DUCKDNS_TOKEN ADMIN_HASH
	find examples -name '*.caddyfile' -o -name Caddyfile | LC_ALL=C sort | while IFS= read -r f; do
		echo "$f"
		bin/caddy validate --adapter caddyfile --config "$f" >bin/validate.log 2>&1 || {
			cat bin/validate.log >&2
			echo "$f is not valid" >&2
			exit 1
		}
	done
}

# What players' tests leave in bin/players, the table of what viewers saw and
# screenshots from before and after what happened, is from this run only.
afresh() {
	mkdir -p bin/players
	rm -f bin/players/measured.md bin/players/*.png
	PLEXLB_PICTURES=$PWD/bin/players
	export PLEXLB_PICTURES
}

# Where there is no browser or no player, the section stays as it was.
viewers() {
	afresh
	(cd internal/e2e && go test -timeout 30m -count=3 -parallel 12 ./players)
	if [ -f bin/players/measured.md ]; then
		go run ./internal/bench players -write BENCHMARKS.md
	else
		echo "warning: no players, so what viewers see was not measured" >&2
	fi
}

# In a module of its own, so that what it needs stays out of this one. The tests
# mostly wait, and each has ports of its own; players are by themselves, as what
# they bear is measured in time.
e2e() {
	step end to end
	build bin/caddy
	afresh
	(cd internal/e2e && go list ./... | grep -v /players$ | xargs go test -race -count=1 -timeout 9m -parallel 12)
	(cd internal/e2e && go test -race -count=1 -timeout 9m -parallel 12 ./players)
	# In a module of its own again: what reads Compose files wants other versions
	# of what the rest needs.
	(cd internal/e2e/deploy && go test -count=1 ./...)
	if [ -f bin/players/measured.md ]; then
		step what viewers saw
		cat bin/players/measured.md
		echo "screenshots from before and after are in bin/players"
	fi
	soak 3m
}

# How long it may take beyond its time is the test's own affair. The long ones
# have 500 viewers: with the race detector besides, two processors would have
# nothing left, and times would mean nothing.
soak() {
	step "soak for $1"
	race=-race
	case $1 in [1-9][0-9]*m* | *h*) race= ;; esac
	PLEXLB_SOAK=$1 go test $race -count=1 -timeout 0 -v -run '^TestSoak$' ./internal/integration
}

[ $# -ge 1 ] || usage
command=$1
shift
case $command in
build)
	[ $# -le 1 ] || usage
	case ${1-} in -*) usage ;; esac
	output=bin/caddy
	if [ $# -eq 1 ]; then output=$(absolute "$1"); fi
	build "$output"
	echo "built $output"
	;;
run)
	[ $# -le 1 ] || usage
	case ${1-} in -*) usage ;; esac
	config=$(absolute "${1:-Caddyfile}")
	if [ ! -f "$config" ]; then
		echo "there is no $config: copy examples/minimal/Caddyfile there and put your servers in" >&2
		exit 1
	fi
	build bin/caddy
	exec bin/caddy run --adapter caddyfile --config "$config"
	;;
demo)
	case "$#:${1-}" in 0:) ;; 1:--stay) ;; *) usage ;; esac
	build bin/caddy
	go build -o bin/demo ./examples/demo
	exec bin/demo -caddy bin/caddy "$@"
	;;
bench)
	case "$#:${1-}" in 0:) ;; 1:--long) ;; *) usage ;; esac
	build bin/caddy
	go build -o bin/peers ./internal/bench/peers
	BENCH_COMMAND="./xcaddy.sh bench${1:+ $1}" bin/peers -caddy bin/caddy -o BENCHMARKS.md "$@"
	viewers
	go run ./internal/bench balance -write BENCHMARKS.md
	;;
test)
	case "$#:${1-}" in
	0:) tests ;;
	1:--e2e) e2e ;;
	1:--soak) soak 30m ;;
	2:--soak) soak "$2" ;;
	*) usage ;;
	esac
	;;
-h | --help | help)
	(usage) 2>&1 || exit 0
	;;
*)
	usage
	;;
esac
