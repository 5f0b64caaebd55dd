package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// peer is a reverse proxy with one configuration.
type peer struct {
	name    string // for the table
	program string // full path once it is found
	packet  string // of Debian, that has it
	version []string
	setting setting
	costs   bool // of interest for its costs alone
}

// setting writes a peer's configuration into dir and returns the arguments that
// make it run in the foreground.
type setting func(dir, listen, admin string, servers []string) (args []string, err error)

// all are the peers, ours first. Each has the best ordinary configuration that
// its users write for Plex.
func all(caddy string) []peer {
	version := []string{"version"}
	return []peer{
		{"plexlb", caddy, "", version, ours("replicated plex1"), false},
		{"Caddy `least_conn`", caddy, "", version, stock("least_conn"), false},
		{"Caddy `uri_hash`", caddy, "", version, stock("uri_hash"), false},
		{"Caddy `query session`", caddy, "", version, stock("query session"), false},
		{"plexlb, `mode separate`", caddy, "", version, ours("separate"), true},
		{"Caddy `least_conn`, `flush_interval -1`", caddy, "", version, stock("least_conn", "flush_interval -1"), true},
		{"Caddy `least_conn`, log without tokens", caddy, "", version, filtered("least_conn"), true},
		{"HAProxy leastconn, stick-table", "haproxy", "haproxy", []string{"-v"}, haproxy, false},
		{"nginx hash", "nginx", "nginx-light", []string{"-v"}, nginx, false},
	}
}

// baseline is the peer to which costs are compared.
const baseline = 1

// present returns the peers that this machine has, and those that it lacks.
func present(caddy string) (here, missing []peer, err error) {
	for _, p := range all(caddy) {
		program, err := exec.LookPath(p.program)
		if err != nil && p.packet == "" {
			return nil, nil, fmt.Errorf("looking for a Caddy with plexlb (./xcaddy.sh build makes one): %w", err)
		}
		if err != nil {
			missing = append(missing, p)
			continue
		}
		if p.program, err = filepath.Abs(program); err != nil {
			return nil, nil, err
		}
		here = append(here, p)
	}
	return here, missing, nil
}

// watched are the peers whose behaviour is of interest.
func watched(peers []peer) []peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.costs })
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

// versionOf asks a program what it is.
func versionOf(p peer) string {
	out, err := exec.Command(p.program, p.version...).CombinedOutput()
	if err != nil {
		return "of unknown version"
	}
	return versionNumber.FindString(string(out))
}

// caddyfile is what all Caddys have in common. Every option of the proxy is what
// the directive plexlb would set: the difference is plexlb, not its options.
const caddyfile = `{
	admin ADMIN
	persist_config off
	auto_https off
	log {
		level ERROR
		FORMAT
	}
	GLOBAL
}
http://LISTEN {
	SITE
}
`

const caddyProxy = `reverse_proxy SERVERS {
		lb_policy POLICY
		lb_try_duration 5s
		lb_try_interval 100ms
		lb_retry_match {
			method GET HEAD
		}
		health_uri /identity
		health_interval 2s
		health_timeout 2s
		health_fails 2
		health_status 200
		health_body machineIdentifier
		fail_duration 5s
		max_fails 3
		stream_close_delay 5m
		transport http {
			keepalive 15s
			compression off
			versions 1.1
		}MORE
	}`

// ours is the directive with nothing but its servers, token and mode, and the
// log format that belongs to it.
func ours(mode string) setting {
	return func(dir, listen, admin string, servers []string) ([]string, error) {
		global := "plexlb {\n\t\ttoken " + token + "\n"
		for i, s := range servers {
			global += fmt.Sprintf("\t\tserver plex%d %s\n", i+1, s)
		}
		global += "\t\tmode " + mode + "\n\t}"
		return caddy(dir, listen, admin, "format plexlb", global, "plexlb")
	}
}

// stock is Caddy's own proxy with one of its policies, and more subdirectives.
func stock(policy string, more ...string) setting { return logging("", policy, more...) }

// filtered is the same with a log that holds as few tokens as plexlb's.
func filtered(policy string) setting {
	return logging(`format filter {
			request>uri regexp "(?i)(token(?:[=:]|%(?:25)*3[AD]))[^&]*" "${1}REDACTED"
			uri regexp "(?i)(token(?:[=:]|%(?:25)*3[AD]))[^&]*" "${1}REDACTED"
			error regexp "(?i)(token=|got: ')[^&'\" ]+" "${1}REDACTED"
			request>headers>X-Plex-Token delete
			request>headers>X-Forwarded-Uri delete
			request>headers>Referer delete
			request>headers>Cookie delete
			resp_headers>Location delete
			headers>Location delete
		}`, policy)
}

func logging(format, policy string, more ...string) setting {
	return func(dir, listen, admin string, servers []string) ([]string, error) {
		return caddy(dir, listen, admin, format, "", strings.NewReplacer("SERVERS", strings.Join(servers, " "), "POLICY", policy, "MORE", strings.Join(append([]string{""}, more...), "\n\t\t")).Replace(caddyProxy))
	}
}

func caddy(dir, listen, admin, format, global, site string) ([]string, error) {
	file := filepath.Join(dir, "Caddyfile")
	text := strings.NewReplacer("ADMIN", admin, "FORMAT", format, "GLOBAL", global, "LISTEN", listen, "SITE", site).Replace(caddyfile)
	return []string{"run", "--adapter", "caddyfile", "--config", file}, os.WriteFile(file, []byte(text), 0o600)
}

// haproxy sticks a playback's requests together by the session in the path or
// the query, and what has none by the device.
func haproxy(dir, listen, _ string, servers []string) ([]string, error) {
	text := `global
	nbthread ` + threads() + `
	maxconn 4000
defaults
	mode http
	option forwardfor
	option redispatch
	option http-keep-alive
	option splice-auto
	retries 3
	timeout connect 2s
	timeout client 1m
	timeout server 1m
	timeout tunnel 1h
	timeout check 2s
frontend plex
	bind ` + listen + `
	http-request set-var(txn.session) path,field(7,/) if { path_reg ^/(video|music)/:/transcode/universal/(session|dash)/ }
	http-request set-var(txn.session) url_param(session) if { url_param(session) -m found }
	http-request set-var(txn.session) url_param(X-Plex-Client-Identifier) if !{ var(txn.session) -m found } { url_param(X-Plex-Client-Identifier) -m found }
	http-request set-var(txn.session) req.hdr(X-Plex-Client-Identifier) if !{ var(txn.session) -m found } { req.hdr(X-Plex-Client-Identifier) -m found }
	default_backend plex
backend plex
	balance leastconn
	stick-table type string len 64 size 100k expire 30m
	stick on var(txn.session)
	option httpchk GET /identity
	http-check expect status 200
	default-server check inter 2s fall 2 rise 1 on-marked-down shutdown-sessions
`
	for i, s := range servers {
		text += fmt.Sprintf("\tserver plex%d %s\n", i+1, s)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	return []string{"-db", "-f", file}, os.WriteFile(file, []byte(text), 0o600)
}

// nginx hashes the session in the path or the query, and what has none by the
// client's address.
func nginx(dir, listen, _ string, servers []string) ([]string, error) {
	text := `daemon off;
worker_processes ` + threads() + `;
error_log DIR/error.log;
pid DIR/nginx.pid;
USER
events {
	worker_connections 4000;
}
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	tcp_nodelay on;
	keepalive_requests 1000000;
	map $request_uri $plex {
		~/universal/(?:session|dash)/([^/]+)/ $1;
		~[?&]session=([^&]+) $1;
		default $remote_addr;
	}
	upstream plex {
		hash $plex consistent;
		SERVERS
		keepalive 32;
		keepalive_requests 1000000;
	}
	server {
		listen LISTEN;
		location / {
			proxy_pass http://plex;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_connect_timeout 2s;
			proxy_buffer_size 32k;
			proxy_buffers 16 32k;
			proxy_busy_buffers_size 64k;
			proxy_max_temp_file_size 0;
			proxy_next_upstream error timeout;
		}
	}
}
`
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // its folders are ours
	}
	var list []string
	for _, s := range servers {
		list = append(list, "server "+s+" max_fails=1 fail_timeout=10s;")
	}
	file := filepath.Join(dir, "nginx.conf")
	text = strings.NewReplacer("DIR", dir, "USER", user, "SERVERS", strings.Join(list, "\n\t\t"), "LISTEN", listen).Replace(text)
	return []string{"-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log")}, os.WriteFile(file, []byte(text), 0o600)
}
