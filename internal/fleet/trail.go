package fleet

// A Trail is what a registration did to the registry beside tying its certificate to its thing: what is undone when its claim
// turns out to be stolen.
type Trail struct {
	ThingID  string       // of the thing that it made; "": the thing was there
	Policies []string     // that it made from documents of the template
	Before   *ThingBefore // nil: it changed no thing that was there
}

// ThingBefore is what a registration changed of a thing that was there.
type ThingBefore struct {
	// Version is the thing's version after the change of its type and attributes, 0 if there was none. With another version somebody
	// else has changed them since.
	Version    int64
	Type       string            // before the change
	Attributes map[string]string // before the change
	Joined     []string          // groups that it was put into
	Left       []string          // groups that it was taken out of
	Billing    string            // billing group that it was put into, having none
}
