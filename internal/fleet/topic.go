package fleet

import (
	"strings"
	"unicode/utf8"
)

// Largest topics and filters (iot-core spec 11).
const (
	MaxTopic        = 256 // bytes of a topic or filter
	MaxTopicSlashes = 7   // slashes in a topic or filter
)

// CheckTopic tells whether a message may have this topic (iot-core spec 6.7). It says nothing about permission, nor about
// who may use a topic that begins with "$".
func CheckTopic(topic string) error {
	counted := topic
	if rest, ok := strings.CutPrefix(topic, "$aws/rules/"); ok {
		if _, ingested, ok := strings.Cut(rest, "/"); ok {
			counted = ingested // Basic Ingest: its first three levels do not count (iot-core spec 6.11)
		}
	}
	switch {
	case topic == "":
		return Invalid("topic", topic, "a topic has at least one character")
	case !topicText(topic):
		return Invalid("topic", topic, "a topic is UTF-8 text without the null character")
	case strings.ContainsAny(topic, "+#"):
		return Invalid("topic", topic, "a message is published to one topic: + and # belong into subscriptions")
	}
	return checkTopicSize("topic", counted)
}

// CheckTopicFilter tells whether filter may select topics: in a subscription, there without "$share/name/", or in a topic
// rule's FROM (iot-core spec 6.8, 8.2).
func CheckTopicFilter(filter string) error {
	if filter == "" || !topicText(filter) {
		return Invalid("filter", filter, "a filter is UTF-8 text of at least one character, without the null character")
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return Invalid("filter", filter, "+ and # stand for a whole level")
		}
		if level == "#" && more {
			return Invalid("filter", filter, "# is the last level")
		}
	}
	return checkTopicSize("filter", filter)
}

// TopicMatches reports whether a checked filter, without "$share/name/", selects topic. Unlike standard MQTT "sensor/#" does
// not select "sensor" (iot-core spec 6.8); wildcards do not select a first level that begins with "$".
func TopicMatches(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && (filter == "" || filter[0] != '$') {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t || fmore != tmore {
			return false
		}
		if !fmore {
			return true
		}
		filter, topic = frest, trest
	}
}

func checkTopicSize(what, s string) error {
	if len(s) > MaxTopic {
		return Invalid(what, s, "at most %d bytes are allowed", MaxTopic)
	}
	if strings.Count(s, "/") > MaxTopicSlashes {
		return Invalid(what, s, "at most %d slashes are allowed", MaxTopicSlashes)
	}
	return nil
}

// topicText is MQTT's rule for text (MQTT 5.0 section 1.5.4).
func topicText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
