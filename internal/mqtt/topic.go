package mqtt

import (
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// checkFilter tells whether a subscription may have this filter, and splits "$share/name/filter" into its parts.
func checkFilter(full string) (share, filter string, err error) {
	filter = full
	if rest, ok := strings.CutPrefix(full, "$share/"); ok {
		if share, filter, ok = strings.Cut(rest, "/"); !ok || share == "" || strings.ContainsAny(share, "+#") || utf8.RuneCountInString(share) > MaxShareName {
			return "", "", fleet.Invalid("filter", full, "a shared subscription looks like $share/name/filter, without + and # in its name")
		}
	}
	if !validText(share) {
		return "", "", fleet.Invalid("filter", full, "a filter is UTF-8 text without the null character")
	}
	return share, filter, fleet.CheckTopicFilter(filter)
}

// validText is the rule for every string of the protocol (MQTT 5.0 section 1.5.4).
func validText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// reservedFilter reports whether a filter that begins with "$" may be subscribed to at all (iot-core spec 6.8).
func reservedFilter(filter string) bool {
	return strings.HasPrefix(filter, "$aws/") && filter != "$aws/rules" && !strings.HasPrefix(filter, "$aws/rules/")
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }
