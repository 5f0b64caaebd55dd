package plex

import (
	"net/netip"
	"strings"
)

// InNetworks reports whether an address is in a list as the preferences
// PrefWithoutAuth and PrefLAN hold it: addresses, networks such as 192.168.1.0/24, and
// networks with a netmask such as 192.168.1.0/255.255.255.0, separated by
// commas. What is none of these is passed over.
func InNetworks(list string, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for entry := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) }) {
		if network, ok := parseNetwork(entry); ok && network.Contains(addr) {
			return true
		}
	}
	return false
}

// parseNetwork reads one entry of such a list.
func parseNetwork(entry string) (netip.Prefix, bool) {
	host, size, whole := strings.Cut(entry, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	if !whole {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	if mask, err := netip.ParseAddr(size); err == nil && mask.Is4() && addr.Is4() {
		bits, ok := maskBits(mask.As4())
		return netip.PrefixFrom(addr, bits), ok
	}
	network, err := netip.ParsePrefix(addr.String() + "/" + size)
	return network, err == nil
}

// maskBits returns how many bits a netmask keeps, false if that is no netmask.
func maskBits(mask [4]byte) (bits int, ok bool) {
	ended := false
	for _, b := range mask {
		for bit := byte(0x80); bit != 0; bit >>= 1 {
			switch set := b&bit != 0; {
			case set && ended:
				return 0, false
			case set:
				bits++
			default:
				ended = true
			}
		}
	}
	return bits, true
}
