package plex

import "strings"

// Query returns the decoded value of the first member of that name in a raw
// query, in any letter case, or "" if there is none or it is badly encoded.
//
// Members are separated by "&" only. A ";" may stand unescaped in a value, no
// client is known to separate by it, and splitting there would let one value
// pose as several members.
func Query(raw, name string) string {
	for raw != "" {
		if named(raw, name) {
			return unescape(valueOf(raw, name))
		}
		var member string
		member, raw, _ = strings.Cut(raw, "&")
		if equalFold(member, name) {
			break // a name without a value
		}
	}
	return ""
}

// named reports whether the first member of a raw query is a value of that
// name, in any letter case. Where the "=" must stand settles it for nearly all
// others.
func named(raw, name string) bool {
	return len(raw) > len(name) && raw[len(name)] == '=' && equalFold(raw[:len(name)], name)
}

// valueOf returns the undecoded value of the first member, which is named so.
func valueOf(raw, name string) string {
	raw = raw[len(name)+1:]
	if i := strings.IndexByte(raw, '&'); i >= 0 {
		return raw[:i]
	}
	return raw
}

// equalFold reports whether name is want in any letter case. The lengths must
// agree in bytes, so no exotic letter folds into an ASCII one.
//
// It stays a call so that named, which seldom comes to it, can be inlined.
//
//go:noinline
func equalFold(name, want string) bool {
	return name == want || len(name) == len(want) && strings.EqualFold(name, want)
}

// unescape decodes a query value, "" if it is badly encoded. A value with
// nothing to decode comes back as it is, without a copy.
func unescape(s string) string {
	if !isEscaped(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return ""
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return ""
			}
			b = append(b, hi<<4|lo)
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// unhex returns the value of a hexadecimal digit, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// WithSession returns a raw query whose transcode session is id; all else stays
// as it is, to the letter. Ids of clients need no escaping; any other is left
// as it was.
func WithSession(raw, id string) string {
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("&=%+#;", c) >= 0 {
			return raw
		}
	}
	var b strings.Builder
	found := false
	for i, member := range strings.Split(raw, "&") {
		if i > 0 {
			b.WriteByte('&')
		}
		name, _, _ := strings.Cut(member, "=")
		if equalFold(name, "session") || equalFold(name, "transcodeSessionId") {
			b.WriteString(name + "=" + id)
			found = found || equalFold(name, "session")
			continue
		}
		b.WriteString(member)
	}
	if !found {
		if raw != "" {
			b.WriteByte('&')
		}
		b.WriteString("session=" + id)
	}
	return b.String()
}
