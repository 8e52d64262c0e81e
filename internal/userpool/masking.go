package userpool

import "strings"

// CodeDelivery tells a user where a code went, without giving the address away.
type CodeDelivery struct{ Destination, Medium, Attribute string }

func deliveryTo(attribute, value string) CodeDelivery {
	if attribute == "phone_number" {
		return CodeDelivery{maskPhone(value), "SMS", attribute}
	}
	return CodeDelivery{maskEmail(value), "EMAIL", attribute}
}

// maskEmail shows the first characters of both halves: i***@e***.
func maskEmail(s string) string {
	user, host, _ := strings.Cut(s, "@")
	return first(user) + "***@" + first(host) + "***"
}

func first(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

// maskPhone shows the last four digits: +*******1234.
func maskPhone(s string) string {
	if len(s) <= 5 {
		return "+***"
	}
	return "+" + strings.Repeat("*", len(s)-5) + s[len(s)-4:]
}

// or returns the first text that is not empty.
func or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
