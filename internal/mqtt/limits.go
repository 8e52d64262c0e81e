package mqtt

import "time"

// Limits of the protocol as the device gateway has it (iot-core spec 6 and 11).
const (
	MaxPayload     = 128 << 10 // bytes of a message
	MaxPacket      = 149504    // bytes of a packet: what real endpoints announce, so that a full payload and its headers fit
	MaxConnect     = 128 << 10 // bytes of a CONNECT packet
	MaxClientID    = 128       // bytes
	MaxFilters     = 8         // filters in one SUBSCRIBE
	MaxSubscribed  = 50        // subscriptions of one session
	MaxInFlight    = 100       // unacknowledged QoS 1 messages in each direction
	MaxAliases     = 8         // topic aliases of a client
	MaxShareName   = 128       // characters of a share name
	maxAliased     = 1 << 10   // bytes of a topic that is kept for its alias: one of more is refused, or names no rule
	maxUnsubscribe = 256       // filters in one UNSUBSCRIBE
	maxContentType = 256       // bytes
	maxCorrelation = 8 << 10   // bytes
	maxUserProps   = 8 << 10   // bytes of all user properties together, their lengths included

	connectTimeout = 10 * time.Second
	minKeepAlive   = 30 * time.Second
	maxKeepAlive   = 1200 * time.Second
	maxMessageLife = 604800 * time.Second
	retryFor       = time.Hour // an unacknowledged QoS 1 message is sent again on resume for so long

	defaultSessionExpiry = time.Hour
	maxSessionExpiry     = 7 * 24 * time.Hour

	reservedQueue = 4 // reserved requests that may wait per connection

	// A slow reader loses QoS 0 messages, and has QoS 1 messages wait, while more than softOutput bytes are unsent; it loses the
	// connection at hardOutput bytes or when a write takes longer than writeTimeout.
	softOutput   = 256 << 10
	hardOutput   = 1 << 20
	writeTimeout = 20 * time.Second
	byeTimeout   = 5 * time.Second // for the last packets of a connection that we end
	lingerFor    = time.Second     // for the peer to close first, so that it gets those packets
)
