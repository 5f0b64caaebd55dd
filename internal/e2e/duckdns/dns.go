package duckdns

import (
	"net"
	"strings"

	"github.com/miekg/dns"
)

// ttl of all records, in seconds.
const ttl = 60

// ServeDNS answers for duckdns.org and nothing else.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	m.RecursionAvailable = true // it stands for the public resolver as well
	if len(r.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(m)
		return
	}
	q := r.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	switch {
	case name == zone:
		s.apex(m, q)
	case strings.HasSuffix(name, "."+zone):
		s.below(m, q, name)
	default:
		m.Authoritative = false
		m.Rcode = dns.RcodeNameError
	}
	if m.Authoritative && len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa())
	}
	_ = w.WriteMsg(m)
}

func (s *Server) apex(m *dns.Msg, q dns.Question) {
	switch q.Qtype {
	case dns.TypeSOA:
		m.Answer = append(m.Answer, soa())
	case dns.TypeNS:
		m.Answer = append(m.Answer, &dns.NS{Hdr: header(q, dns.TypeNS), Ns: "ns1." + zone + "."})
	}
}

// below answers for a domain and for every name below it alike.
func (s *Server) below(m *dns.Msg, q dns.Question, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.find(name)
	if d == nil {
		m.Rcode = dns.RcodeNameError
		return
	}
	switch q.Qtype {
	case dns.TypeA:
		if d.ipv4.IsValid() {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(q, dns.TypeA), A: net.IP(d.ipv4.AsSlice())})
		}
	case dns.TypeAAAA:
		if d.ipv6.IsValid() {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(q, dns.TypeAAAA), AAAA: net.IP(d.ipv6.AsSlice())})
		}
	case dns.TypeTXT:
		for s.hold > 0 {
			s.set.Wait()
		}
		values := d.txt
		if len(values) == 0 {
			values = []string{""}
		}
		for _, v := range values {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header(q, dns.TypeTXT), Txt: []string{v}})
		}
	}
}

func header(q dns.Question, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns1." + zone + ".", Mbox: "hostmaster." + zone + ".",
		Serial: 1, Refresh: 6000, Retry: 120, Expire: 2419200, Minttl: 600,
	}
}
