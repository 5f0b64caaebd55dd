// Package duckdns is a stand-in for DuckDNS: its update call and its name
// server, with the one property that matters for certificates. A domain has a
// single TXT value, which is the answer for every name below it.
//
// It is written from DuckDNS's own specification of the call
// (https://www.duckdns.org/spec.jsp).
package duckdns

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// zone is what all domains lie below.
const zone = "duckdns.org"

// Server is DuckDNS for one account.
type Server struct {
	// Values that a domain holds at once. DuckDNS has one slot; more are for
	// seeing what tests make of it.
	Slots int

	// Publish is told what a domain has become, before the call that changed it
	// is answered, so that other name servers say the same. Default: nobody is.
	Publish func(name string, r Records)

	token   string
	mu      sync.Mutex
	domains map[string]*domain
	updates []Update
	hold    int // answers about TXT wait for this many to have been set
	set     *sync.Cond
}

type domain struct {
	ipv4, ipv6 netip.Addr
	txt        []string
}

// Records are what a domain has in DNS, and every name below it.
type Records struct {
	IPv4, IPv6 netip.Addr // not valid: none
	TXT        []string
}

// Update is a call that has been answered.
type Update struct {
	Domain string // without .duckdns.org
	TXT    bool   // it was about the TXT value, not the addresses
	Clear  bool
	Value  string // TXT value, or addresses
	OK     bool
}

// New returns DuckDNS as an account has it: a token of 36 characters, and
// domains, without .duckdns.org, that have the address.
func New(token string, address netip.Addr, domains ...string) *Server {
	s := &Server{Slots: 1, token: token, domains: make(map[string]*domain)}
	s.set = sync.NewCond(&s.mu)
	for _, name := range domains {
		d := new(domain)
		d.address(address)
		s.domains[name] = d
	}
	return s
}

// Updates returns the calls so far.
func (s *Server) Updates() []Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.updates)
}

// Records returns what a domain has now.
func (s *Server) Records(name string) Records {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.domains[name].records()
}

// HoldTXT lets nobody see a TXT value before n more have been set.
func (s *Server) HoldTXT(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = n
	s.set.Broadcast()
}

// ServeHTTP answers the call update. The status is always 200; the body says
// whether it worked.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/update" {
		http.NotFound(w, r)
		return
	}
	_, _ = fmt.Fprint(w, s.update(r))
}

func (s *Server) update(r *http.Request) string {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, names := "KO", strings.Split(q.Get("domains"), ",")
	for _, name := range names {
		name = strings.TrimSuffix(strings.ToLower(name), "."+zone)
		u := Update{Domain: name, TXT: q.Has("txt"), Clear: q.Get("clear") == "true", Value: q.Get("txt")}
		d := s.domains[name]
		if d != nil && len(s.token) == 36 && q.Get("token") == s.token {
			u.OK = true
			switch {
			case u.TXT:
				answer = s.updateTXT(d, u)
			case u.Clear:
				answer = cleared(d)
			default:
				u.Value, u.OK, answer = updateAddresses(d, q.Get("ip"), q.Get("ipv6"), r.RemoteAddr)
			}
		}
		s.updates = append(s.updates, u)
		if !u.OK {
			return "KO"
		}
		if s.Publish != nil {
			s.Publish(name, d.records())
		}
	}
	if q.Get("verbose") != "true" {
		return "OK"
	}
	return answer
}

func (s *Server) updateTXT(d *domain, u Update) string {
	before := slices.Clone(d.txt)
	if u.Clear {
		// Whatever the value was: the call clears the slot.
		if d.txt = nil; s.Slots > 1 {
			d.txt = slices.DeleteFunc(slices.Clone(before), func(v string) bool { return v == u.Value })
		}
	} else {
		d.txt = append(d.txt, u.Value)
		d.txt = d.txt[max(0, len(d.txt)-s.Slots):]
		s.hold = max(0, s.hold-1)
		s.set.Broadcast()
	}
	return "OK\n" + strings.Join(d.txt, " ") + "\n" + changed(!slices.Equal(before, d.txt))
}

func cleared(d *domain) string {
	had := d.ipv4.IsValid() || d.ipv6.IsValid()
	d.ipv4, d.ipv6 = netip.Addr{}, netip.Addr{}
	return "OK\n\n\n" + changed(had)
}

// updateAddresses sets what is given. An address is detected only if none is.
func updateAddresses(d *domain, ip, ipv6, from string) (value string, ok bool, answer string) {
	if ip == "" && ipv6 == "" {
		ip, _, _ = net.SplitHostPort(from)
	}
	before := *d
	for _, given := range []string{ip, ipv6} {
		if given == "" {
			continue
		}
		addr, err := netip.ParseAddr(given)
		if err != nil || given == ipv6 && !addr.Is6() {
			*d = before
			return "", false, "KO"
		}
		d.address(addr)
	}
	value = strings.TrimSpace(ip + " " + ipv6)
	same := before.ipv4 == d.ipv4 && before.ipv6 == d.ipv6
	return value, true, "OK\n" + text(d.ipv4) + "\n" + text(d.ipv6) + "\n" + changed(!same)
}

func (d *domain) records() Records {
	return Records{d.ipv4, d.ipv6, slices.Clone(d.txt)}
}

func (d *domain) address(addr netip.Addr) {
	if addr.Is4() {
		d.ipv4 = addr
	} else {
		d.ipv6 = addr
	}
}

func text(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func changed(yes bool) string {
	if yes {
		return "UPDATED"
	}
	return "NOCHANGE"
}

// find returns the domain that a name lies in.
func (s *Server) find(name string) *domain {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), "."+zone), ".")
	return s.domains[cmp.Or(labels[len(labels)-1], "-")]
}
