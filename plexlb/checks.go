package plexlb

// How bad a finding of the doctor is.
const (
	// LevelError is for what keeps playbacks from working, or lets in who
	// should stay out.
	LevelError = "error"

	// LevelWarning is for what makes them worse, or lets clients go past the
	// balancer.
	LevelWarning = "warning"

	// LevelInfo is for what could not be found out, or is worth knowing.
	LevelInfo = "info"
)

// levels are in the order in which they are told.
var levels = []string{LevelError, LevelWarning, LevelInfo}

// What the doctor can find: words of a fixed set.
const (
	// CheckUnreachable: the server does not take connections, or does not
	// answer.
	CheckUnreachable = "unreachable"

	// CheckTLSName: its certificate is for another name than the address has.
	CheckTLSName = "tls_name"

	// CheckTLSUntrusted: its certificate is by an authority that Caddy does
	// not trust.
	CheckTLSUntrusted = "tls_untrusted"

	// CheckTLSExpired: its certificate has expired, or is not valid yet.
	CheckTLSExpired = "tls_expired"

	// CheckTLSFailed: TLS does not come about for another reason.
	CheckTLSFailed = "tls_failed"

	// CheckTLSNotSpoken: it speaks plain HTTP, but the address is https.
	CheckTLSNotSpoken = "tls_not_spoken"

	// CheckTLSNeeded: it speaks TLS, but the address is http.
	CheckTLSNeeded = "tls_needed"

	// CheckNotPlex: something answers, but not as a Plex Media Server does.
	CheckNotPlex = "not_plex"

	// CheckOtherServer: it is not the one that machine_identifier names.
	CheckOtherServer = "other_server"

	// CheckMaintenance: PMS says that it is starting or being maintained.
	CheckMaintenance = "maintenance"

	// CheckTokenMissing: there is no token to read its sessions with.
	CheckTokenMissing = "token_missing"

	// CheckTokenRejected: it does not take the token.
	CheckTokenRejected = "token_rejected"

	// CheckTokenNotOwner: it takes the token, but that is not its owner's.
	CheckTokenNotOwner = "token_not_owner"

	// CheckSessionsUnreadable: its sessions cannot be read for another reason.
	CheckSessionsUnreadable = "sessions_unreadable"

	// CheckSlow: reading its sessions takes longer than poll_timeout.
	CheckSlow = "slow"

	// CheckNotRead: it can be read, but Caddy's own last reading failed.
	CheckNotRead = "not_read"

	// CheckIdentitiesDiffer: mode replicated, and the servers are not one.
	CheckIdentitiesDiffer = "identities_differ"

	// CheckSameServer: mode separate, and two of the servers are one.
	CheckSameServer = "same_server"

	// CheckVersionsDiffer: the servers run different versions of PMS.
	CheckVersionsDiffer = "versions_differ"

	// CheckHardwareOff: PMS does not transcode in hardware.
	CheckHardwareOff = "hardware_off"

	// CheckTranscodingOff: PMS does not transcode video at all.
	CheckTranscodingOff = "transcoding_off"

	// CheckTranscodeLimit: PMS takes fewer transcodes than plexlb sends.
	CheckTranscodeLimit = "transcode_limit"

	// CheckRelay: clients can come through plex.tv's relay.
	CheckRelay = "relay_on"

	// CheckPublished: clients learn the server's own address from plex.tv.
	CheckPublished = "published"

	// CheckAccessURL: clients do not learn the balancer's address.
	CheckAccessURL = "access_url_missing"

	// CheckWithoutAuth: PMS takes requests from Caddy without a token.
	CheckWithoutAuth = "allowed_without_auth"

	// CheckForwarded: PMS does not believe what Caddy says of where viewers are.
	CheckForwarded = "forwarded_ignored"

	// CheckLAN: PMS takes viewers at home for ones who are elsewhere.
	CheckLAN = "lan_without_caddy"

	// CheckSecure: PMS requires TLS, but the address is http.
	CheckSecure = "secure_required"

	// CheckClock: its clock and Caddy's differ.
	CheckClock = "clock_skew"

	// CheckPreferences: some of its preferences could not be read.
	CheckPreferences = "preferences_unknown"

	// CheckNotChecked: it was not asked.
	CheckNotChecked = "not_checked"

	// CheckNoServers: there are no servers.
	CheckNoServers = "no_servers"

	// CheckProxyUntrusted: Caddy is behind a proxy that it does not believe.
	CheckProxyUntrusted = "proxy_untrusted"

	// CheckEverybodyTrusted: Caddy believes everybody's X-Forwarded-For.
	CheckEverybodyTrusted = "everybody_trusted"
)
