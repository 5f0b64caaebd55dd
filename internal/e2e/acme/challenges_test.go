package acme

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/plexlb/caddy-plexlb/internal/e2e/duckdns"
	"github.com/plexlb/caddy-plexlb/internal/e2e/transcript"
)

// names is Pebble's challenge DNS server, which holds what DuckDNS publishes.
type names struct {
	address    string   // where it is asked for names
	management string   // URL
	txt        []string // what it holds
}

// challenged are the names that the ACME server looks for a TXT value at.
// DuckDNS gives its one value for every name; this server knows names one by one.
var challenged = []string{
	"_acme-challenge." + parent,
	"_acme-challenge." + name("plex"),
	"_acme-challenge." + name("plex1"),
	"_acme-challenge." + name("plex2"),
}

// serveChallenges is the name server that the ACME server asks. It knows nothing
// but what DuckDNS has published.
func (in *internet) serveChallenges(t *testing.T) {
	n := &names{address: "127.0.0.1:" + strconv.Itoa(port(t))}
	management := "127.0.0.1:" + strconv.Itoa(port(t))
	n.management = "http://" + management
	c := tied(challtestsrv, "-dnsserver", n.address, "-management", management,
		"-defaultIPv4", "", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	log := new(transcript.Transcript)
	c.Stdout, c.Stderr = log, log
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("Pebble's challenge DNS server said:\n%s", log)
		}
	})
	now := in.DuckDNS.Records(domain)
	if !eventually(10*time.Second, func() bool { return n.publish(now) == nil && n.leadsTo(now.IPv4) }) {
		t.Fatal("Pebble's challenge DNS server does not answer")
	}
	in.DuckDNS.Publish = func(_ string, r duckdns.Records) {
		if err := n.publish(r); err != nil {
			t.Errorf("publishing %v: %v", r, err)
		}
	}
	in.names = n
}

// publish replaces what the server knows.
func (n *names) publish(r duckdns.Records) error {
	for path, addr := range map[string]netip.Addr{"/set-default-ipv4": r.IPv4, "/set-default-ipv6": r.IPv6} {
		ip := ""
		if addr.IsValid() {
			ip = addr.String()
		}
		if _, err := n.call(path, map[string]string{"ip": ip}); err != nil {
			return err
		}
	}
	// It can forget values only all at once, and whoever looks before the rest is set
	// again finds none. So one that is gone stays for as long as others that were
	// there with it do.
	lasting := slices.ContainsFunc(n.txt, func(value string) bool { return slices.Contains(r.TXT, value) })
	if !lasting {
		for _, host := range challenged {
			if _, err := n.call("/clear-txt", map[string]string{"host": host}); err != nil {
				return err
			}
		}
		n.txt = nil
	}
	for _, value := range r.TXT {
		if slices.Contains(n.txt, value) {
			continue
		}
		for _, host := range challenged { // what is set is added
			if _, err := n.call("/set-txt", map[string]string{"host": host, "value": value}); err != nil {
				return err
			}
		}
		n.txt = append(n.txt, value)
	}
	return nil
}

// leadsTo reports whether names do.
func (n *names) leadsTo(addr netip.Addr) bool {
	tcp := &dns.Client{Net: "tcp"} // as Pebble asks
	in, _, err := tcp.Exchange(new(dns.Msg).SetQuestion(name("plex")+".", dns.TypeA), n.address)
	if err != nil || len(in.Answer) != 1 {
		return false
	}
	a, ok := in.Answer[0].(*dns.A)
	return ok && a.A.String() == addr.String()
}

// looked returns how often the ACME server has looked for a TXT value.
func (n *names) looked(t *testing.T, host string) (times int) {
	t.Helper()
	answer, err := n.call("/dns-request-history", map[string]string{"host": host})
	if err != nil {
		t.Fatal(err)
	}
	var history []struct{ Question dns.Question }
	if err := json.Unmarshal(answer, &history); err != nil {
		t.Fatal(err)
	}
	for _, event := range history {
		if event.Question.Qtype == dns.TypeTXT {
			times++
		}
	}
	return times
}

func (n *names) call(path string, what map[string]string) ([]byte, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	res, err := http.Post(n.management+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return answer, err
}
