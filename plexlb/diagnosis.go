package plexlb

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// Finding is something that the doctor would change.
type Finding struct {
	Level  string `json:"level"`
	Server string `json:"server,omitempty"` // empty: it is about the whole
	Check  string `json:"check"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// facts are what the doctor judges.
type facts struct {
	replicated  bool
	pollTimeout time.Duration
	patience    time.Duration // how long each server had to answer
	servers     []serverFacts

	// proxy is where requests came from with an X-Forwarded-For that was not
	// believed, if any did.
	proxy netip.Addr

	// trusting are the settings that believe everybody's X-Forwarded-For.
	trusting []string
}

// serverFacts are what is known about one server. A fault is a word of
// [plex.Fault].
type serverFacts struct {
	name, host string
	named      bool // by a configuration
	asked      bool
	https      bool
	expect     string // machine identifier, if configured
	token      bool
	limit      int // max_transcodes

	greeting plex.Greeting
	fault    string   // of the greeting
	names    []string // for which its certificate is, if that is the fault
	tls      bool     // it speaks TLS at an http address where that failed

	root, sessions, preferences string // faults, if there is a token
	took                        time.Duration
	prefs                       plex.Preferences

	everRead bool   // by the poller
	unread   string // why its last reading failed
}

// maxSkew is how far two clocks may be apart.
const maxSkew = 30 * time.Second

// diagnose says what is wrong and what to do about it, the worst first.
func diagnose(f *facts) []Finding {
	d := diagnosis{facts: f, list: []Finding{}}
	if len(f.servers) == 0 {
		d.whole(LevelWarning, CheckNoServers, "There are no servers.",
			"Name them in option plexlb: server <name> <address>. Upstreams of a proxy that no option names are known once a request came.")
	}
	d.proxies()
	d.identities()
	d.versions()
	for i := range f.servers {
		d.server(&f.servers[i])
	}
	slices.SortStableFunc(d.list, func(a, b Finding) int {
		return cmp.Compare(slices.Index(levels, a.Level), slices.Index(levels, b.Level))
	})
	return d.list
}

// diagnosis is the findings as they come.
type diagnosis struct {
	*facts
	list []Finding
}

func (d *diagnosis) whole(level, check, what, remedy string) {
	d.list = append(d.list, Finding{Level: level, Check: check, What: what, Remedy: remedy})
}

// proxies is about who is believed to be a proxy in front of Caddy.
func (d *diagnosis) proxies() {
	if len(d.trusting) > 0 {
		d.whole(LevelWarning, CheckEverybodyTrusted,
			fmt.Sprintf("The setting trusted_proxies of %s believes everybody: any client can choose the address that Plex, logs and matchers take it for.", list(d.trusting)),
			"List the addresses of your own proxies only, or remove the setting if there is none in front of Caddy.")
	}
	if d.proxy.IsValid() {
		d.whole(LevelWarning, CheckProxyUntrusted,
			fmt.Sprintf("Requests come from %s with an X-Forwarded-For that Caddy does not believe. If that is a proxy of yours, all viewers behind it look like one in the local network to Plex.", d.proxy),
			fmt.Sprintf("If it is your proxy, set the global option servers { trusted_proxies static %s }.", d.proxy))
	}
}

// known reports whether the server said who it is, and is the one that it
// should be.
func (s *serverFacts) known() bool {
	return s.asked && s.fault == "" && !s.other()
}

// other reports whether it is another than the configured one.
func (s *serverFacts) other() bool {
	return s.fault == "" && s.expect != "" && s.greeting.MachineIdentifier != s.expect
}

// groups returns the names of the known servers by what they have in common,
// in the order of the servers.
func (d *diagnosis) groups(of func(*serverFacts) string) (groups []group) {
	for i := range d.servers {
		s := &d.servers[i]
		value := of(s)
		if !s.known() || value == "" {
			continue
		}
		at := slices.IndexFunc(groups, func(g group) bool { return g.value == value })
		if at < 0 {
			at, groups = len(groups), append(groups, group{value: value})
		}
		groups[at].names = append(groups[at].names, s.name)
	}
	return groups
}

type group struct {
	value string
	names []string
}

// each tells who has what.
func each(groups []group) string {
	var parts []string
	for _, g := range groups {
		parts = append(parts, fmt.Sprintf("%s for %s", brief(g.value), and(g.names)))
	}
	return strings.Join(parts, "; ")
}

func (d *diagnosis) identities() {
	groups := d.groups(func(s *serverFacts) string { return s.greeting.MachineIdentifier })
	if d.replicated && len(groups) > 1 {
		d.whole(LevelError, CheckIdentitiesDiffer,
			fmt.Sprintf("The machine identifier is %s. In mode replicated all servers have to be clones with one: clients drop a server whose identity changes from one answer to the next.", each(groups)),
			"Copy the database and Preferences.xml of the primary to the others while Plex is stopped there, or use mode separate.")
	}
	for _, g := range groups {
		if !d.replicated && len(g.names) > 1 {
			d.whole(LevelError, CheckSameServer,
				fmt.Sprintf("%s have the same machine identifier %s: they are one Plex Media Server that is listed more than once, or clones of one.", and(g.names), brief(g.value)),
				"List a server once. If they are clones, use mode replicated <primary>.")
		}
	}
}

func (d *diagnosis) versions() {
	groups := d.groups(func(s *serverFacts) string { return s.greeting.Version })
	if len(groups) < 2 {
		return
	}
	level, why := LevelInfo, "Each has its own library, so that this does no harm here."
	if d.replicated {
		level, why = LevelWarning, "What one has encoded may not fit what another goes on with when a playback is carried there, and one database may not suit both."
	}
	d.whole(level, CheckVersionsDiffer, fmt.Sprintf("The version of Plex Media Server is %s. %s", each(groups), why),
		"Bring all servers to the same version.")
}

// server is about one server by itself.
func (d *diagnosis) server(s *serverFacts) {
	add := func(level, check, what, remedy string) {
		d.list = append(d.list, Finding{level, s.name, check, what, remedy})
	}
	if !s.asked {
		add(LevelInfo, CheckNotChecked, "The server was not checked: its address is not known beforehand, or there are too many servers.",
			"Name it in option plexlb: server <name> <address>.")
		return
	}
	if s.greeting.Dated && s.greeting.Ahead.Abs() > maxSkew {
		where := "ahead of"
		if s.greeting.Ahead < 0 {
			where = "behind"
		}
		add(LevelWarning, CheckClock,
			fmt.Sprintf("The server's clock is %s %s Caddy's: watch times and logs do not fit together, and certificates and tokens may be taken for invalid.", s.greeting.Ahead.Abs().Round(time.Second), where),
			"Set both clocks by NTP.")
	}
	if s.fault != "" {
		d.notMet(s, add)
		return
	}
	if s.other() {
		add(LevelError, CheckOtherServer,
			fmt.Sprintf("Another server answers: its machine identifier is %s, but %s is configured.", brief(s.greeting.MachineIdentifier), brief(s.expect)),
			"Correct the address, or machine_identifier.")
		return
	}
	// PMS goes by X-Forwarded-For only if it comes from such an address
	// [P §6.4].
	if from := s.greeting.Local.Unmap(); from.IsValid() && !(from.Is4() && (from.IsPrivate() || from.IsLoopback())) {
		add(LevelWarning, CheckForwarded,
			fmt.Sprintf("Caddy reaches the server from %s, which is no private IPv4 address: Plex may not believe X-Forwarded-For from there, and take all viewers for one who is where Caddy is.", from),
			"Give the server by its private IPv4 address, or by a name that has no other.")
	}
	if !s.token {
		add(LevelWarning, CheckTokenMissing, "There is no token: the server's sessions are not read, only what passes through here is counted, and its settings are not checked.",
			"Set token in option plexlb to the X-Plex-Token of the server's owner; if it is there, set its environment variable.")
		return
	}
	if d.sessions(s, add) {
		d.preferences(s, add)
	}
}

type adder func(level, check, what, remedy string)

// notMet is about a server that did not say who it is.
func (d *diagnosis) notMet(s *serverFacts, add adder) {
	if !s.named {
		// It may be gone on purpose, and not forgotten yet.
		told := add
		add = func(level, check, what, remedy string) {
			if check == CheckUnreachable {
				level, remedy = LevelWarning, remedy+" If it was taken away, it will be forgotten ten minutes after it was last used."
			}
			told(level, check, what, remedy)
		}
	}
	host, _, _ := strings.Cut(s.host, ":")
	switch s.fault {
	case plex.FaultWrongName:
		add(LevelError, CheckTLSName,
			fmt.Sprintf("The server's certificate is for %s, not for %s.", names(s.names), s.host),
			wantedName(s.names))
	case plex.FaultUntrusted:
		add(LevelError, CheckTLSUntrusted, "The server's certificate is signed by an authority that Caddy does not trust.",
			"Use a name of the certificate that Plex provides (https://<address-with-dashes>.<hash>.plex.direct:32400), or set tls_trust_pool to the authority of your own certificate.")
	case plex.FaultExpired:
		add(LevelError, CheckTLSExpired, "The server's certificate has expired, or is not valid yet.",
			"Renew it; Plex renews its own when it can reach plex.tv and is restarted. Check both clocks.")
	case plex.FaultCertificate:
		add(LevelError, CheckTLSFailed, "TLS with the server does not come about: its certificate is not valid for a server, or the two sides agree on no version or cipher.",
			"Replace its certificate, or remove settings that restrict TLS.")
	case plex.FaultPlain:
		add(LevelError, CheckTLSNotSpoken, "The address is https, but the server speaks plain HTTP there.",
			fmt.Sprintf("Write its address as http://%s, or correct the port.", s.host))
	case plex.FaultNoName:
		add(LevelError, CheckUnreachable, fmt.Sprintf("The name %s cannot be resolved.", host),
			"Correct the address, or the DNS that Caddy's machine or container uses.")
	case "refused":
		add(LevelError, CheckUnreachable, fmt.Sprintf("Nothing takes connections at %s.", s.host),
			"Start Plex Media Server, or correct the address and port (Plex uses 32400).")
	case "maintenance":
		add(LevelWarning, CheckMaintenance, "Plex Media Server says that it is starting or being maintained; it gets no new playbacks.",
			"Wait until it is done; its log says what it does.")
	case "timeout":
		if s.greeting.Connected {
			add(LevelError, CheckUnreachable, fmt.Sprintf("The server takes connections, but did not answer within %s.", short(d.patience)),
				"Restart Plex Media Server, and look at its log and its disks.")
			return
		}
		add(LevelError, CheckUnreachable, fmt.Sprintf("There is no answer from %s.", s.host),
			"Check that the machine runs, its address, and the firewalls in between.")
	default:
		switch {
		case s.tls:
			add(LevelError, CheckTLSNeeded, "The address is http, which the server refuses; it speaks TLS there.",
				"Write its address as https://, with a name that is in its certificate.")
		case s.fault == "unreachable" && !s.greeting.Connected:
			add(LevelError, CheckUnreachable, fmt.Sprintf("There is no way to %s.", s.host),
				"Check the address, and the network between it and Caddy.")
		case s.fault == "unreachable":
			add(LevelError, CheckUnreachable, fmt.Sprintf("%s takes connections and breaks them off.", s.host),
				"Check that Plex Media Server listens there, and not another program.")
		default:
			add(LevelError, CheckNotPlex, fmt.Sprintf("What is at %s does not answer as a Plex Media Server does (%s).", s.host, s.fault),
				"Correct the address and port (Plex uses 32400); if it is Plex, look at its log.")
		}
	}
}

// sessions is about the token, and whether the server can be read with it. It
// reports whether it can.
func (d *diagnosis) sessions(s *serverFacts, add adder) bool {
	refused := func(fault string) bool { return fault == "unauthorized" || fault == "forbidden" }
	const whose = "Use the X-Plex-Token of the account that the server belongs to, in option plexlb or in the server's own block."
	switch {
	case s.sessions == "":
	case refused(s.sessions) && s.root == "":
		add(LevelError, CheckTokenNotOwner, "The server takes the token but does not show it what is playing, as it does with a token that is not its owner's but that of somebody with whom it is shared.", whose)
		return false
	case refused(s.sessions):
		add(LevelError, CheckTokenRejected, "The server does not take the token: what is playing past the balancer is not counted.",
			whose+" A server that cannot reach plex.tv may refuse a good token as well.")
		return false
	case s.sessions == "maintenance":
		add(LevelWarning, CheckMaintenance, "Plex Media Server says that it is starting or being maintained; it gets no new playbacks.",
			"Wait until it is done; its log says what it does.")
		return false
	default:
		add(LevelError, CheckSessionsUnreadable, fmt.Sprintf("The server says who it is, but its sessions cannot be read (%s).", s.sessions),
			"Look at the log of Plex Media Server; its database or disks may be in trouble.")
		return false
	}
	switch {
	case s.took > d.pollTimeout:
		add(LevelWarning, CheckSlow, fmt.Sprintf("Reading the server's sessions took %s, longer than poll_timeout (%s) allows: such readings are lost.", s.took.Round(100*time.Millisecond), d.pollTimeout),
			"Raise poll_timeout, or find out what keeps Plex busy.")
	case s.unread != "":
		when := "the last time"
		if !s.everRead {
			when = "so far"
		}
		add(LevelInfo, CheckNotRead, fmt.Sprintf("Caddy could not read the server's sessions %s (%s), although it can be read now.", when, s.unread),
			"Wait a minute, as readings that fail come further apart; if it stays like this, see Caddy's log.")
	}
	return true
}

// preferences is about how the server is set up.
func (d *diagnosis) preferences(s *serverFacts, add adder) {
	if s.preferences != "" {
		add(LevelInfo, CheckPreferences, fmt.Sprintf("The server's settings could not be read (%s), and so were not checked.", s.preferences),
			"Try again later.")
		return
	}
	p := s.prefs
	is := func(name string, want bool) bool {
		on, known := p.Flag(name)
		return known && on == want
	}

	switch {
	case is(plex.PrefRemuxOnly, true):
		add(LevelWarning, CheckTranscodingOff, "Video transcoding is disabled in Plex: playbacks that need it fail there, and plexlb sends them all the same.",
			"Turn off Settings → Transcoder → Disable video stream transcoding.")
	case is(plex.PrefHardware, false):
		add(LevelWarning, CheckHardwareOff, "Hardware acceleration is off in Plex: every video transcode is done by the processor.",
			"Turn on Settings → Transcoder → Use hardware acceleration when available. If the server has no GPU, give it a weight that fits its processor.")
	case is(plex.PrefEncoders, false):
		add(LevelWarning, CheckHardwareOff, "Hardware-accelerated encoding is off in Plex: the GPU only decodes, and every video is encoded by the processor.",
			"Turn on Settings → Transcoder → Use hardware-accelerated video encoding.")
	}

	remedy := func(limit int) string {
		if !s.named {
			return fmt.Sprintf("Name the server in option plexlb and set max_transcodes %d in its block, or raise the limit in Plex.", limit)
		}
		return fmt.Sprintf("Set max_transcodes %d in the server's block, or raise the limit in Plex.", limit)
	}
	switch limit, _ := p.Number(plex.PrefTranscodes); {
	case limit > 0 && s.limit == 0:
		add(LevelWarning, CheckTranscodeLimit, fmt.Sprintf("Plex refuses more than %d video transcodes at once, and there is no max_transcodes: plexlb goes on sending playbacks there.", limit), remedy(limit))
	case limit > 0 && limit < s.limit:
		add(LevelWarning, CheckTranscodeLimit, fmt.Sprintf("Plex refuses more than %d video transcodes at once, and max_transcodes is %d: plexlb sends more than Plex takes.", limit, s.limit), remedy(limit))
	}

	if is(plex.PrefPublished, true) {
		what := "Remote access is on in Plex: clients learn the server's own address from plex.tv, and may go past the balancer."
		if d.replicated {
			what += " Clones that are published overwrite each other's addresses there."
		}
		add(LevelWarning, CheckPublished, what, "Turn off Settings → Remote Access.")
	}
	if is(plex.PrefRelay, true) {
		add(LevelWarning, CheckRelay, "The relay is on in Plex: clients may reach the server through plex.tv, past the balancer.",
			"Turn off Settings → Network → Enable Relay.")
	}
	const setURL = "Set Settings → Network → Custom server access URLs to the address of your site, with scheme and port, such as https://plex.example.com:443."
	switch urls, known := p.Text(plex.PrefAccessURLs); {
	case known && strings.Trim(urls, ", ") == "":
		add(LevelWarning, CheckAccessURL, "There is no custom server access URL in Plex: clients do not learn the balancer's address from plex.tv.", setURL)
	case known && !accessURLs(urls):
		// Not what stands there: a URL may hold a token.
		add(LevelWarning, CheckAccessURL, "A custom server access URL in Plex lacks its scheme or its port, which it needs even if that is 443: clients may not take it.", setURL)
	}
	if allowed, _ := p.Text(plex.PrefWithoutAuth); plex.InNetworks(allowed, s.greeting.Local) {
		add(LevelError, CheckWithoutAuth,
			fmt.Sprintf("Caddy reaches the server from %s, which is in Plex's list of networks that are allowed without auth: whoever comes through Caddy may be let in without a token.", s.greeting.Local),
			"Take that address out of Settings → Network → List of IP addresses and networks that are allowed without auth.")
	}
	if lan, _ := p.Text(plex.PrefLAN); strings.Trim(lan, ", ") != "" && s.greeting.Local.IsValid() && !plex.InNetworks(lan, s.greeting.Local) {
		add(LevelWarning, CheckLAN,
			fmt.Sprintf("Caddy reaches the server from %s, which is not among Plex's LAN networks: viewers at home, who come to Plex from there, may count as remote, with the limits of remote viewers.", s.greeting.Local),
			"Add that address to Settings → Network → LAN Networks, or empty the list if Caddy is in the server's own subnet, which is all that an empty one stands for.")
	}
	if secure, known := p.Number(plex.PrefSecure); known && secure == plex.SecureRequired && !s.https {
		add(LevelWarning, CheckSecure, "Plex requires secure connections, but the server's address is http: it may refuse what comes through Caddy.",
			"Write its address as https://, with a name that is in its certificate; or set Settings → Network → Secure connections to Preferred.")
	}
	if unknown := p.Unknown(); len(unknown) > 0 {
		add(LevelInfo, CheckPreferences, fmt.Sprintf("The server does not tell these settings, and so they were not checked: %s.", list(unknown)),
			"None, if all works: other versions of Plex have other settings.")
	}
}

// wantedName says which name to use with a certificate.
func wantedName(certificate []string) string {
	for _, name := range certificate {
		if strings.HasPrefix(name, "*.") && strings.HasSuffix(name, ".plex.direct") {
			return fmt.Sprintf("Use the name that Plex has a certificate for: its address with dashes in place of dots, followed by %s, as the address or as tls_server_name.", brief(name[1:]))
		}
	}
	return "Write the address with a name of the certificate, or set tls_server_name to one; or give the server a certificate for its address."
}

// names tells for whom a certificate is.
func names(certificate []string) string {
	const most = 3
	var told []string
	for _, name := range certificate[:min(len(certificate), most)] {
		told = append(told, brief(name))
	}
	switch more := len(certificate) - len(told); {
	case len(told) == 0:
		return "nobody"
	case more > 0:
		return fmt.Sprintf("%s and %d more", list(told), more)
	}
	return and(told)
}

// brief is what a server says of itself, fit to be shown.
func brief(s string) string {
	const most = 64
	if r := []rune(clean(s)); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return clean(s)
}

// and joins words as a sentence does.
func and(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return list(words)
	}
	return list(words[:last]) + " and " + words[last]
}

// accessURLs reports whether all URLs of a list have a scheme, a host and a
// port, without which PMS does not tell them to clients [P §6.1].
func accessURLs(list string) bool {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		u, err := url.Parse(part)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" {
			return false
		}
	}
	return true
}
