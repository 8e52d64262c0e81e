package federation

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Keys of ProviderDetails.
const (
	clientID     = "client_id"
	clientSecret = "client_secret"
	scopes       = "authorize_scopes"
	issuerURL    = "oidc_issuer"
	authorizeURL = "authorize_url"
	tokenURL     = "token_url"
	attributeURL = "attributes_url"
	keysURL      = "jwks_uri"
	requestBy    = "attributes_request_method"
	addNames     = "attributes_url_add_attributes"
	tokenBy      = "token_request_method"
	apiVersion   = "api_version"
	teamID       = "team_id"
	keyID        = "key_id"
	privateKey   = "private_key"
	metadataURL  = "MetadataURL"
	metadataFile = "MetadataFile"
	ssoURL       = "SSORedirectBindingURI"
	sloURL       = "SLORedirectBindingURI"

	// Ours: which claim names somebody's groups at the provider, and which group of the pool each of them is, as a JSON object.
	groupsClaim = "imprint_groups_claim"
	groupsMap   = "imprint_groups"
)

// SecretDetails are the keys of ProviderDetails that are kept sealed.
var SecretDetails = []string{clientSecret, privateKey}

// bad is what an administrator reads who describes a provider wrongly.
func bad(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", format, args...).WithCode("InvalidParameterException")
}

// A kind is a type of provider.
type kind struct {
	subject  string // what it calls the subject
	openID   bool   // answers with an Id token
	required []string
	optional []string
	defaults map[string]string
	only     map[string][]string // what a detail may be
}

var yesNo = []string{"true", "false"}

var kinds = map[string]kind{
	TypeOIDC: {subject: "sub", openID: true,
		required: []string{clientID, scopes, issuerURL, requestBy},
		optional: []string{clientSecret, authorizeURL, tokenURL, attributeURL, keysURL, addNames, tokenBy},
		defaults: map[string]string{addNames: "false"},
		only:     map[string][]string{requestBy: {"GET", "POST"}, addNames: yesNo, tokenBy: {"POST"}}},
	TypeGoogle: {subject: "sub", openID: true,
		required: []string{clientID, clientSecret, scopes},
		optional: []string{issuerURL, authorizeURL, tokenURL, attributeURL, keysURL, addNames, tokenBy},
		defaults: map[string]string{issuerURL: "https://accounts.google.com", addNames: "false", tokenBy: "POST",
			authorizeURL: "https://accounts.google.com/o/oauth2/v2/auth", tokenURL: "https://oauth2.googleapis.com/token",
			attributeURL: googleUserInfo, keysURL: "https://www.googleapis.com/oauth2/v3/certs"},
		only: map[string][]string{addNames: yesNo, tokenBy: {"POST"}}},
	TypeApple: {subject: "sub", openID: true,
		required: []string{clientID, teamID, keyID, privateKey, scopes},
		optional: []string{issuerURL, authorizeURL, tokenURL, keysURL, addNames, tokenBy},
		defaults: map[string]string{issuerURL: "https://appleid.apple.com", addNames: "false", tokenBy: "POST",
			authorizeURL: "https://appleid.apple.com/auth/authorize", tokenURL: "https://appleid.apple.com/auth/token", keysURL: "https://appleid.apple.com/auth/keys"},
		only: map[string][]string{addNames: yesNo, tokenBy: {"POST"}}},
	TypeFacebook: {subject: "id",
		required: []string{clientID, clientSecret, scopes},
		optional: []string{apiVersion, authorizeURL, tokenURL, attributeURL, addNames, tokenBy},
		defaults: map[string]string{apiVersion: "v17.0", addNames: "true", tokenBy: "GET"},
		only:     map[string][]string{addNames: yesNo, tokenBy: {"GET", "POST"}}},
	TypeAmazon: {subject: "user_id",
		required: []string{clientID, clientSecret, scopes},
		optional: []string{authorizeURL, tokenURL, attributeURL, addNames, tokenBy},
		defaults: map[string]string{addNames: "false", tokenBy: "POST", authorizeURL: "https://www.amazon.com/ap/oa",
			tokenURL: "https://api.amazon.com/auth/o2/token", attributeURL: "https://api.amazon.com/user/profile"},
		only: map[string][]string{addNames: yesNo, tokenBy: {"POST"}}},
	TypeSAML: {
		optional: []string{metadataURL, metadataFile, ssoURL, sloURL, "IDPSignout", "IDPInit", "EncryptedResponses"},
		only:     map[string][]string{"IDPSignout": {"false"}, "IDPInit": {"false"}, "EncryptedResponses": {"false"}}},
}

// Google's people API, which AWS shows as attributes_url, knows no subject. Its address stands for OpenID Connect's own.
const (
	googleUserInfo = "https://openidconnect.googleapis.com/v1/userinfo"
	googlePeople   = "https://people.googleapis.com/"
)

const (
	maxDetail       = 2048
	maxMetadataFile = 128 << 10
)

// Check completes the details and the mapping of a provider and refuses what cannot work. It asks nobody; Resolve does.
func Check(p *Provider) error {
	k, known := kinds[p.Type]
	if !known {
		return bad("The provider type %q is not known.", p.Type)
	}
	if p.Details = maps.Clone(p.Details); p.Details == nil {
		p.Details = map[string]string{}
	}
	for _, name := range k.required {
		if p.Details[name] == "" {
			return bad("The ProviderDetails of a provider of type %s must have %s.", p.Type, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Details)) {
		if err := k.checkDetail(p.Type, name, p.Details[name]); err != nil {
			return err
		}
	}
	for name, value := range k.defaults {
		if p.Details[name] == "" {
			p.Details[name] = value
		}
	}
	if err := p.checkType(); err != nil {
		return err
	}
	if _, err := p.Groups(); err != nil {
		return err
	}
	return p.checkMapping(k)
}

func (k kind) checkDetail(providerType, name, value string) error {
	limit := maxDetail
	switch {
	case name == metadataFile:
		limit = maxMetadataFile
	case name == groupsMap:
		limit = 16 << 10
	}
	switch allowed, bound := k.only[name]; {
	case name == groupsClaim || name == groupsMap:
	case !slices.Contains(k.required, name) && !slices.Contains(k.optional, name):
		return bad("The ProviderDetails of a provider of type %s have no %q here.", providerType, name)
	case bound && !slices.Contains(allowed, value):
		return bad("The provider detail %s must be %s here.", name, strings.Join(allowed, " or "))
	}
	if len(value) > limit {
		return bad("The provider detail %s is longer than %d bytes.", name, limit)
	}
	if value != "" && slices.Contains([]string{issuerURL, authorizeURL, tokenURL, attributeURL, keysURL, metadataURL}, name) && !isWebURL(value) {
		return bad("The provider detail %s is not an https URL.", name)
	}
	return nil
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// checkType looks at what is special about a type.
func (p *Provider) checkType() error {
	d := p.Details
	switch p.Type {
	case TypeOIDC:
		if !slices.Contains(splitScopes(d[scopes]), "openid") {
			return bad("The authorize_scopes of a provider of type OIDC must have openid.")
		}
	case TypeGoogle:
		if strings.HasPrefix(d[attributeURL], googlePeople) {
			d[attributeURL] = googleUserInfo
		}
	case TypeApple:
		if _, err := applePrivateKey(d[privateKey]); err != nil {
			return bad("The private_key is not the content of a key file of Apple's (.p8, P-256): %v.", err)
		}
	case TypeFacebook:
		v := d[apiVersion]
		for name, value := range map[string]string{authorizeURL: "https://www.facebook.com/" + v + "/dialog/oauth",
			tokenURL: "https://graph.facebook.com/" + v + "/oauth/access_token", attributeURL: "https://graph.facebook.com/" + v + "/me?fields="} {
			if d[name] == "" {
				d[name] = value
			}
		}
	case TypeSAML:
		if (d[metadataURL] == "") == (d[metadataFile] == "") {
			return bad("The ProviderDetails of a provider of type SAML must have either MetadataURL or MetadataFile.")
		}
	}
	return nil
}

// checkMapping completes the mapping. A user is always known by the provider's own subject: any other claim may pass from one person
// to the next, and the account with it.
func (p *Provider) checkMapping(k kind) error {
	if p.Mapping = maps.Clone(p.Mapping); p.Mapping == nil {
		p.Mapping = map[string]string{}
	}
	for name, claim := range p.Mapping {
		if claim == "" || len(claim) > 256 {
			return bad("The attribute mapping of %s is empty or longer than 256 bytes.", name)
		}
	}
	if k.subject == "" {
		if _, mapped := p.Mapping["username"]; mapped {
			return bad("The username of users of a SAML provider is its NameID: leave username out of the attribute mapping.")
		}
		return nil
	}
	if claim, mapped := p.Mapping["username"]; mapped && claim != k.subject {
		return bad("The attribute mapping of username must be %s for a provider of type %s.", k.subject, p.Type)
	}
	p.Mapping["username"] = k.subject
	return nil
}

// Groups returns which group of the pool each group at the provider is; nil: groups are not the provider's to say.
func (p *Provider) Groups() (map[string]string, error) {
	claim, text := p.Details[groupsClaim], p.Details[groupsMap]
	if claim == "" && text == "" {
		return nil, nil
	}
	var groups map[string]string
	if err := json.Unmarshal([]byte(text), &groups); err != nil || claim == "" || len(groups) == 0 {
		return nil, bad(`To take groups from the provider, imprint_groups_claim names the claim and imprint_groups the groups, like {"Group at the provider": "group of the pool"}.`)
	}
	for from, to := range groups {
		if from == "" || to == "" {
			return nil, bad("A name of a group in imprint_groups is empty.")
		}
	}
	return groups, nil
}

// GroupsOf lists the groups of the pool that somebody is in by what the provider says; only groups that the administrator has listed.
func (p *Provider) GroupsOf(id Identity) []string {
	groups, err := p.Groups()
	if err != nil {
		return nil
	}
	var in []string
	for _, name := range id.Claims.Strings(p.Details[groupsClaim]) {
		if to := groups[name]; to != "" && !slices.Contains(in, to) {
			in = append(in, to)
		}
	}
	return in
}

// Text is how a claim is written into an attribute, as AWS writes it; ok is false for what has no text.
func Text(claim any) (text string, ok bool) {
	switch v := claim.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case []string: // of SAML
		if len(v) == 1 {
			return v[0], true
		}
		return "[" + strings.Join(v, ", ") + "]", len(v) > 0
	}
	b, err := json.Marshal(claim)
	return string(b), err == nil
}

// splitScopes takes scopes apart, which some write with commas.
func splitScopes(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
}
