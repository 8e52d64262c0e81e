package mqtt

import (
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
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
		return fleet.Invalid("topic", topic, "a topic has at least one character")
	case !validText(topic):
		return fleet.Invalid("topic", topic, "a topic is UTF-8 text without the null character")
	case strings.ContainsAny(topic, "+#"):
		return fleet.Invalid("topic", topic, "a message is published to one topic: + and # belong into subscriptions")
	}
	return checkSize("topic", counted)
}

// checkFilter tells whether a subscription may have this filter, and splits "$share/name/filter" into its parts.
func checkFilter(full string) (share, filter string, err error) {
	filter = full
	if rest, ok := strings.CutPrefix(full, "$share/"); ok {
		if share, filter, ok = strings.Cut(rest, "/"); !ok || share == "" || strings.ContainsAny(share, "+#") || utf8.RuneCountInString(share) > MaxShareName {
			return "", "", fleet.Invalid("filter", full, "a shared subscription looks like $share/name/filter, without + and # in its name")
		}
	}
	if filter == "" || !validText(full) {
		return "", "", fleet.Invalid("filter", full, "a filter is UTF-8 text of at least one character, without the null character")
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return "", "", fleet.Invalid("filter", full, "+ and # stand for a whole level")
		}
		if level == "#" && more {
			return "", "", fleet.Invalid("filter", full, "# is the last level")
		}
	}
	return share, filter, checkSize("filter", filter)
}

func checkSize(what, s string) error {
	if len(s) > MaxTopic {
		return fleet.Invalid(what, s, "at most %d bytes are allowed", MaxTopic)
	}
	if strings.Count(s, "/") > MaxSlashes {
		return fleet.Invalid(what, s, "at most %d slashes are allowed", MaxSlashes)
	}
	return nil
}

// validText is the rule for every string of the protocol (MQTT 5.0 section 1.5.4).
func validText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// reservedFilter reports whether a filter that begins with "$" may be subscribed to at all (iot-core spec 6.8).
func reservedFilter(filter string) bool {
	return strings.HasPrefix(filter, "$aws/") && filter != "$aws/rules" && !strings.HasPrefix(filter, "$aws/rules/")
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

// matches reports whether filter, without "$share/", selects topic. Unlike standard MQTT "sensor/#" does not select "sensor"
// (iot-core spec 6.8); wildcards do not select a first level that begins with "$".
func matches(filter, topic string) bool {
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
