package plex

// Session is what a player is doing, as /status/sessions tells it [P §1].
// Anything may be missing, and for a direct play most of it sometimes is.
type Session struct {
	Key              string // sessionKey: a counter of the server, new for every play
	RatingKey        string
	Type             string // movie, episode, clip, track or photo
	Title            string
	GrandparentTitle string // show or artist
	ID               string // Session.id: the X-Plex-Session-Identifier [P §1.5]
	Client           string // Player.machineIdentifier: the X-Plex-Client-Identifier
	PlayerTitle      string
	Product          string
	User             string
	State            string // playing, paused or buffering
	Location         string // lan or wan
	Live             bool   // live TV

	PartDecision  string // of the selected part: directplay, transcode or empty
	VideoDecision string // of its video stream: copy, transcode or empty

	// Transcode is the conversion behind the session, nil for a direct play.
	// The capture of a live channel is not it; that is a job of its own.
	Transcode *Transcode
}

// Work returns what the session costs its server.
func (s Session) Work() Work {
	switch {
	case s.Transcode != nil:
		return s.Transcode.Work()
	case isTranscode(s.VideoDecision):
		return GPU // in hardware or not is not told here
	case isTranscode(s.PartDecision):
		return Copy // a part is "transcode" for a mere remux, too [P §1.4]
	}
	return None
}

// readSession reads an item of /status/sessions.
func readSession(n *node) Session {
	player := n.child("Player")
	part, video := selectedPart(n)
	s := Session{
		Key:              n.text("sessionKey"),
		RatingKey:        n.text("ratingKey"),
		Type:             n.text("type"),
		Title:            n.text("title"),
		GrandparentTitle: n.text("grandparentTitle"),
		ID:               n.child("Session").text("id"),
		Client:           player.text("machineIdentifier"),
		PlayerTitle:      player.text("title"),
		Product:          player.text("product"),
		User:             n.child("User").text("title"),
		State:            player.text("state"),
		Location:         n.child("Session").text("location"),
		Live:             n.boolean("live"),
		PartDecision:     part.text("decision"),
		VideoDecision:    video.text("decision"),
	}
	if c := n.child("TranscodeSession"); c != nil {
		t := readTranscode(c)
		s.Transcode = &t
	}
	return s
}

// readSessions reads the answer of /status/sessions: Metadata in JSON; Video,
// Track and Photo in XML, mixed and in no order.
func readSessions(container *node) ([]Session, error) {
	items := container.all("Metadata", "Video", "Track", "Photo")
	if err := believe(container, items); err != nil {
		return nil, err
	}
	sessions := make([]Session, 0, len(items))
	for _, item := range items {
		sessions = append(sessions, readSession(item))
	}
	return sessions, nil
}

// selectedPart returns the part of an item that is played, and its video
// stream. Either can be nil.
func selectedPart(item *node) (part, video *node) {
	part = selected(selected(item.all("Media")).all("Part"))
	for _, stream := range part.all("Stream") {
		if stream.integer("streamType") == 1 {
			return part, stream
		}
	}
	return part, nil
}

// selected returns the node that is marked so, else the first.
func selected(nodes []*node) *node {
	for _, n := range nodes {
		if n.boolean("selected") {
			return n
		}
	}
	if len(nodes) > 0 {
		return nodes[0]
	}
	return nil
}
