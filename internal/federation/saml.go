package federation

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/imprint-iot/imprint/internal/federation/samlsp"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// How long a metadata document that was fetched counts. AWS, too, looks again every six hours.
const (
	freshMetadata = 6 * time.Hour
	staleMetadata = 24 * time.Hour // and so long if the provider cannot be reached
	pauseMetadata = time.Minute    // between two questions for it
)

// metadata is a SAML provider's description, and when it was asked for.
type metadata struct {
	doc       []byte
	at, asked time.Time
}

// maxMetadata bounds the documents that are kept, in bytes together: whoever may name providers may name any number of URLs.
const maxMetadata = 32 << 20

// saml returns a provider as it describes itself.
func (c *Service) saml(ctx context.Context, p Provider) (*samlsp.Provider, error) {
	doc := []byte(p.Details[metadataFile])
	if at := p.Details[metadataURL]; at != "" {
		var err error
		if doc, err = c.fetchMetadata(ctx, at); err != nil {
			return nil, err
		}
	}
	return c.parse(doc)
}

func (c *Service) parse(doc []byte) (*samlsp.Provider, error) {
	idp, err := samlsp.ParseMetadata(doc, c.clock.Now())
	if err != nil {
		return nil, &Error{Fault: Setup, Msg: "The SAML provider cannot be used: " + err.Error()}
	}
	return idp, nil
}

// fetchMetadata returns the document at a URL, from the cache while it is fresh.
func (c *Service) fetchMetadata(ctx context.Context, from string) ([]byte, error) {
	now := c.clock.Now()
	c.mu.Lock()
	kept := c.metadata[from]
	if kept == nil {
		kept = &metadata{}
	}
	doc, age, asked := kept.doc, now.Sub(kept.at), now.Sub(kept.asked)
	if doc != nil {
		if age < freshMetadata || age < staleMetadata && asked < pauseMetadata {
			c.mu.Unlock()
			return doc, nil
		}
		c.metadata[from] = &metadata{doc: doc, at: kept.at, asked: now}
	}
	c.mu.Unlock()

	fresh, err := c.get(ctx, from)
	if err != nil {
		err = unavailable("the SAML metadata at "+from, err)
	} else {
		_, err = c.parse(fresh)
	}
	if err != nil { // what is of no use is not kept: it may be mended soon
		if doc != nil && age < staleMetadata {
			return doc, nil
		}
		return nil, err
	}
	c.keep(from, &metadata{doc: fresh, at: now, asked: now})
	return fresh, nil
}

// keep puts a document into the cache. Those that were asked for longest ago make room.
func (c *Service) keep(from string, m *metadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.metadata[from] = m
	for {
		size, oldest := 0, ""
		for at, m := range c.metadata {
			if size += len(m.doc); at != from && (oldest == "" || m.asked.Before(c.metadata[oldest].asked)) {
				oldest = at
			}
		}
		if size <= maxMetadata {
			return
		}
		delete(c.metadata, oldest)
	}
}

func (c *Service) get(ctx context.Context, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New("it answered " + res.Status)
	}
	return io.ReadAll(res.Body)
}

// resolveSAML reads the metadata and notes what AWS shows of it.
func (c *Service) resolveSAML(ctx context.Context, p *Provider) error {
	idp, err := c.saml(ctx, *p)
	if err != nil {
		return err
	}
	p.Details[ssoURL] = idp.SSO
	if delete(p.Details, sloURL); idp.SLO != "" {
		p.Details[sloURL] = idp.SLO
	}
	return nil
}

func (us Us) saml() samlsp.ServiceProvider {
	return samlsp.ServiceProvider{EntityID: us.EntityID, ACS: us.ACS}
}

func (c *Service) beginSAML(ctx context.Context, p Provider, us Us, state string) (string, Pending, error) {
	idp, err := c.saml(ctx, p)
	if err != nil {
		return "", Pending{}, err
	}
	to, id, err := idp.Request(us.saml(), state)
	return to, Pending{Request: id}, err
}

func (c *Service) finishSAML(ctx context.Context, p Provider, us Us, pending Pending, answer url.Values) (Identity, error) {
	idp, err := c.saml(ctx, p)
	if err != nil {
		return Identity{}, err
	}
	a, err := idp.Accept(us.saml(), answer.Get("SAMLResponse"), pending.Request, c.clock.Now())
	if errors.Is(err, samlsp.ErrRefused) {
		return Identity{}, &Error{Fault: Refused, Msg: "The identity provider's answer is not accepted", Err: err}
	}
	if err != nil {
		return Identity{}, err
	}
	claims := jwt.Claims{}
	for name, values := range a.Attributes {
		claims[name] = values
	}
	return Identity{Subject: a.Subject, Issuer: idp.EntityID, Claims: claims, Once: idp.EntityID + "\x00" + a.ID, Until: a.Expires}, nil
}

// Metadata describes us to a SAML provider.
func (us Us) Metadata() ([]byte, error) { return us.saml().Metadata() }
