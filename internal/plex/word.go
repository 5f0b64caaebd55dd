package plex

// Looking at eight bytes at a time. Identify runs for every request, and the
// short strings it reads are over before a call to a search has paid off.

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// word returns the first eight bytes of s, the first one lowest.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// equal8 sets the high bit of exactly those bytes of x that equal c.
func equal8(x uint64, c byte) uint64 {
	x ^= ones * uint64(c)
	return ^((x&^highs + (highs - ones)) | x | (highs - ones))
}

// below8 is not zero if a byte of x is less than c, which is at most 0x80.
func below8(x uint64, c byte) uint64 {
	return (x - ones*uint64(c)) &^ x & highs
}

// hasControl reports whether s holds an ASCII control character.
func hasControl(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if x := word(s); below8(x, ' ')|equal8(x, 0x7f) != 0 {
			return true
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// isEscaped reports whether s holds anything to decode in a query.
func isEscaped(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if x := word(s); equal8(x, '%')|equal8(x, '+') != 0 {
			return true
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '%' || s[i] == '+' {
			return true
		}
	}
	return false
}
