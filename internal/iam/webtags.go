package iam

import (
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// Claims by which an identity provider tags the sessions of its people (AWS's guide, "Passing session tags using
// AssumeRoleWithWebIdentity"). The role's trust policy must allow sts:TagSession, and sts:SetSourceIdentity for the last.
const (
	tagsClaim   = "https://aws.amazon.com/tags"
	sourceClaim = "https://aws.amazon.com/source_identity"
)

const maxTagKey, maxTagValue = 128, 256

var sourceForm = fleet.NewPattern(`^[\w+=,.@-]{2,64}$`)

// webTags reads session tags, the keys of those that are transitive, and the source identity from a token's claims. Tags come as one
// object or, flat, as a claim for each.
func webTags(c jwt.Claims) (tags map[string]string, transitive []string, source string, err error) {
	tags = map[string]string{}
	var given map[string]any
	if nested, ok := c[tagsClaim].(map[string]any); ok {
		given, _ = nested["principal_tags"].(map[string]any)
		transitive = jwt.Claims(nested).Strings("transitive_tag_keys")
	}
	add := func(key string, v any) error {
		values := jwt.Claims{"v": v}.Strings("v")
		switch {
		case len(values) != 1 || len(values[0]) > maxTagValue:
			return badTag("the tag %.128q of the token needs one value of at most %d characters", key, maxTagValue)
		case key == "" || len(key) > maxTagKey || strings.HasPrefix(strings.ToLower(key), "aws:"):
			return badTag("the token's tag key %.140q must have 1 to %d characters and not begin with aws:", key, maxTagKey)
		}
		before := len(tags)
		if setTag(tags, key, values[0]); len(tags) == before {
			return badTag("the token has the tag key %.128q twice; case does not count", key)
		}
		return nil
	}
	for key, v := range given {
		if err := add(key, v); err != nil {
			return nil, nil, "", err
		}
	}
	for name, v := range c {
		if key, ok := strings.CutPrefix(name, tagsClaim+"/principal_tags/"); ok {
			if err := add(key, v); err != nil {
				return nil, nil, "", err
			}
		}
	}
	transitive = slices.Concat(transitive, c.Strings(tagsClaim+"/transitive_tag_keys"))
	for _, k := range transitive {
		if _, ok := tags[k]; !ok {
			return nil, nil, "", badTag("the token's transitive tag key %.128q is not among its tags", k)
		}
	}
	if len(tags) > maxTags {
		return nil, nil, "", badTag("the token has %d tags, at most %d are allowed", len(tags), maxTags)
	}
	if v, present := c[sourceClaim]; present {
		if source, _ = v.(string); !sourceForm.MatchString(source) {
			return nil, nil, "", badTag("the token's source identity must have 2 to 64 characters, of letters, digits and +=,.@-_")
		}
	}
	return tags, transitive, source, nil
}

// badTag is InvalidIdentityToken: the token is what is wrong, and its issuer must mend it.
func badTag(format string, args ...any) error {
	return fleet.Invalid("", "", format, args...).WithCode("InvalidIdentityToken")
}
