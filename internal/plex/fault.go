package plex

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
)

// The words of Fault that Reason does not have.
const (
	FaultNoName      = "name_unknown"  // the host's name leads nowhere
	FaultPlain       = "no_tls"        // it speaks plain HTTP where TLS was expected
	FaultWrongName   = "tls_name"      // the certificate is for another name
	FaultUntrusted   = "tls_untrusted" // by an authority that is not trusted
	FaultExpired     = "tls_expired"   // or not valid yet
	FaultCertificate = "tls_failed"    // not valid for another reason, or no agreement on TLS
)

// Fault returns the one word of a fixed set that says why a question to a
// server failed; "" if it did not. It is Reason in more detail, where that is
// about the connection.
func Fault(err error) string {
	if err == nil {
		return ""
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return FaultWrongName
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return FaultUntrusted
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return FaultExpired
		}
		return FaultCertificate
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return FaultPlain
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return FaultCertificate
	}
	// The alerts of TLS have no type of their own.
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") {
		return FaultCertificate
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return FaultPlain
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && !e.IsTimeout {
		return FaultNoName
	}
	return Reason(err)
}

// CertificateNames returns for whom a certificate was made, if an error is
// about that.
func CertificateNames(err error) []string {
	e, ok := errors.AsType[x509.HostnameError](err)
	if !ok || e.Certificate == nil {
		return nil
	}
	names := append([]string(nil), e.Certificate.DNSNames...)
	for _, ip := range e.Certificate.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
