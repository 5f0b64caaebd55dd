package duckdns

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const token = "9b2f6a1e-7c3d-4e58-8f60-1a2b3c4d5e6f"

// The calls of DuckDNS's specification, one after the other, and their answers.
func TestUpdate(t *testing.T) {
	s := New(token, netip.MustParseAddr("203.0.113.7"), "house", "hut")
	for _, tc := range []struct{ what, query, want string }{
		{"another token", "domains=house&token=" + token[1:] + "0&ip=203.0.113.8", "KO"},
		{"no token", "domains=house&ip=203.0.113.8", "KO"},
		{"another account's domain", "domains=castle&token=TOKEN&ip=203.0.113.8", "KO"},
		{"no address", "domains=house&token=TOKEN&ip=here", "KO"},
		{"an IPv4 address as IPv6", "domains=house&token=TOKEN&ipv6=203.0.113.8", "KO"},
		{"the same address", "domains=house&token=TOKEN&ip=203.0.113.7&verbose=true", "OK\n203.0.113.7\n\nNOCHANGE"},
		{"another address", "domains=house&token=TOKEN&ip=203.0.113.8&verbose=true", "OK\n203.0.113.8\n\nUPDATED"},
		{"IPv6 alone leaves the other", "domains=house&token=TOKEN&ipv6=2001:db8::1&verbose=true", "OK\n203.0.113.8\n2001:db8::1\nUPDATED"},
		{"none: the caller's", "domains=house.duckdns.org&token=TOKEN&verbose=true", "OK\n192.0.2.1\n2001:db8::1\nUPDATED"},
		{"short answers", "domains=house,hut&token=TOKEN&ip=203.0.113.9", "OK"},
		{"a value", "domains=house&token=TOKEN&txt=one&verbose=true", "OK\none\nUPDATED"},
		{"another value in its place", "domains=house&token=TOKEN&txt=two&verbose=true", "OK\ntwo\nUPDATED"},
		{"whatever it was is cleared", "domains=house&token=TOKEN&txt=one&clear=true&verbose=true", "OK\n\nUPDATED"},
		{"no addresses", "domains=hut&token=TOKEN&clear=true&verbose=true", "OK\n\n\nUPDATED"},
	} {
		q, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		if q.Get("token") == "TOKEN" {
			q.Set("token", token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "https://www.duckdns.org/update?"+q.Encode(), nil))
		if w.Code != 200 || w.Body.String() != tc.want {
			t.Errorf("%s: %d %q, want %q", tc.what, w.Code, w.Body, tc.want)
		}
	}
	if r := s.Records("house"); r.IPv4.String() != "203.0.113.9" || r.IPv6.String() != "2001:db8::1" {
		t.Errorf("house is at %v and %v", r.IPv4, r.IPv6)
	}
}

// Other name servers are told all that a domain has, and not what was refused.
func TestPublish(t *testing.T) {
	s := New(token, netip.MustParseAddr("203.0.113.7"), "house", "hut")
	var told []string
	s.Publish = func(name string, r Records) {
		told = append(told, fmt.Sprintf("%s %v %v %v", name, r.IPv4, r.IPv6, r.TXT))
	}
	for _, query := range []string{"domains=house&txt=one", "domains=House.duckdns.org&txt=two", "domains=castle&txt=three", "domains=house&ipv6=2001:db8::1", "domains=house&txt=two&clear=true", "domains=house,hut&ip=203.0.113.8"} {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://www.duckdns.org/update?token="+token+"&"+query, nil))
	}
	want := []string{
		"house 203.0.113.7 invalid IP [one]",
		"house 203.0.113.7 invalid IP [two]",
		"house 203.0.113.7 2001:db8::1 [two]",
		"house 203.0.113.7 2001:db8::1 []",
		"house 203.0.113.8 2001:db8::1 []",
		"hut 203.0.113.8 invalid IP []",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// asked is who asks the name server, and what it is told.
type asked struct {
	dns.ResponseWriter
	answer *dns.Msg
}

func (a *asked) WriteMsg(m *dns.Msg) error {
	a.answer = m
	return nil
}

func (s *Server) ask(name string, rrtype uint16) *dns.Msg {
	a := new(asked)
	s.ServeDNS(a, new(dns.Msg).SetQuestion(name+".", rrtype))
	return a.answer
}

// All names below a domain have its records, and its one TXT value.
func TestNames(t *testing.T) {
	s := New(token, netip.MustParseAddr("203.0.113.7"), "house")
	for _, value := range []string{"one", "two"} {
		q := url.Values{"domains": {"house"}, "token": {token}, "txt": {value}}
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://www.duckdns.org/update?"+q.Encode(), nil))
	}
	for _, name := range []string{"house.duckdns.org", "plex.house.duckdns.org", "_acme-challenge.plex.house.duckdns.org", "PLEX.House.DuckDNS.org"} {
		if got := s.ask(name, dns.TypeA).Answer; len(got) != 1 || got[0].(*dns.A).A.String() != "203.0.113.7" {
			t.Errorf("A of %s: %v", name, got)
		}
		if got := s.ask(name, dns.TypeAAAA); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 0 {
			t.Errorf("AAAA of %s: %v", name, got)
		}
		if got := s.ask(name, dns.TypeTXT).Answer; len(got) != 1 || !slices.Equal(got[0].(*dns.TXT).Txt, []string{"two"}) {
			t.Errorf("TXT of %s: %v", name, got)
		}
		if got := s.ask(name, dns.TypeSOA); len(got.Answer) != 0 || len(got.Ns) != 1 {
			t.Errorf("%s is a zone: %v", name, got)
		}
	}
	for _, name := range []string{"castle.duckdns.org", "house.example.org", "org"} {
		if got := s.ask(name, dns.TypeA); got.Rcode != dns.RcodeNameError {
			t.Errorf("%s exists: %v", name, got)
		}
	}
	if got := s.ask("duckdns.org", dns.TypeSOA).Answer; len(got) != 1 {
		t.Errorf("duckdns.org is no zone: %v", got)
	}
}

// Who asks for a TXT value before enough have been set waits for the last.
func TestHoldTXT(t *testing.T) {
	s := New(token, netip.MustParseAddr("203.0.113.7"), "house")
	s.HoldTXT(2)
	told := make(chan string)
	go func() { told <- s.ask("house.duckdns.org", dns.TypeTXT).Answer[0].(*dns.TXT).Txt[0] }()
	for _, value := range []string{"one", "two"} {
		select {
		case got := <-told:
			t.Fatalf("told %q before %q was set", got, value)
		case <-time.After(20 * time.Millisecond):
		}
		q := url.Values{"domains": {"house"}, "token": {token}, "txt": {value}}
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://www.duckdns.org/update?"+q.Encode(), nil))
	}
	if got := <-told; got != "two" {
		t.Errorf("told %q", got)
	}
}
