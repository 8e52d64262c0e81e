package mqtt

import "time"

// An EventKind is what happened in the life of a connection.
type EventKind int

const (
	Connected        EventKind = iota // CONNECT was accepted
	Disconnected                      // a connection that was Connected has ended: End says how
	ConnectFailed                     // CONNECT, or its will, was denied by the Access: End says why
	Subscribed                        // Topics are the filters that were granted
	Unsubscribed                      // Topics are the filters that were removed
	SubscribeRefused                  // Topics are the filters that were not granted: End says why the last of them
)

// An Event is something in the life of a connection that others may want to know (iot-core spec 7.1; SubscribeRefused is for logs).
type Event struct {
	Kind   EventKind
	Client *Client
	Time   time.Time // by the broker's clock
	End    End
	Topics []string
}
