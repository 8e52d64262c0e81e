package userpool

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// The file of a user import job arrives by PUT at an address that the job's description has. Whoever knows the address may store that
// file and nothing else: it is signed for the job, for fifteen minutes and for the largest file there may be. Its form is that of S3's
// addresses, and it asks for the header that those of Cognito ask for.

// ImportPath is the beginning of the path of such addresses.
const ImportPath = "/imprint/user-imports/"

// ImportHeader must be sent with a file, with ImportHeaderValue, since Cognito's addresses are signed for it.
const ImportHeader, ImportHeaderValue = "x-amz-server-side-encryption", "aws:kms"

// importPart is how many bytes of a file a transaction stores, so that nobody waits long behind it.
const importPart = 256 << 10

// maxUploads is how many files arrive at a time: each takes the memory of a part.
const maxUploads = 4

func (s *Service) importURL(secret []byte, i store.PoolImport) string {
	q := url.Values{"X-Amz-Date": {i.Created.UTC().Format("20060102T150405Z")}, "X-Amz-Expires": {strconv.Itoa(int(importUpload / time.Second))},
		"X-Amz-SignedHeaders": {"host;" + ImportHeader}, "X-Amz-Signature": {importSignature(secret, i)}}
	return s.cfg.Issuer + ImportPath + i.Pool + "/" + i.ID + "?" + q.Encode()
}

// importSignature stands for all that an address allows.
func importSignature(secret []byte, i store.PoolImport) string {
	return hex.EncodeToString(hmacSum(secret, fmt.Appendf(nil, "import\x00%s\x00%s\x00%d\x00%d\x00%d", i.Pool, i.ID, i.Created.UnixMilli(), importUpload/time.Second, maxImportSize)))
}

// An ImportUpload is a file that arrives. It may be used once.
type ImportUpload struct {
	s   *Service
	job store.PoolImport
}

// Upload finds the job that an address is for. It fails with KindDenied unless the signature is that of the address, with KindState when the
// job takes no file, and with KindThrottled when too many arrive.
func (s *Service) Upload(ctx context.Context, poolID, id, signature string) (*ImportUpload, error) {
	denied := fail(fleet.KindDenied, "SignatureDoesNotMatch", "The address is not one that CreateUserImportJob has given.")
	var p *Pool
	u := &ImportUpload{s: s}
	err := s.view(ctx, func(tx *store.Tx) error {
		row, err := tx.FindUserPool(poolID)
		if err == nil {
			p, u.job, err = readImport(tx, row.Scope, poolID, id)
		}
		return err
	})
	if isNotFound(err) {
		return nil, denied
	}
	if err != nil {
		return nil, err
	}
	secret, err := s.poolSecret(p)
	if err != nil {
		return nil, err
	}
	switch {
	case !hmac.Equal([]byte(importSignature(secret, u.job)), []byte(signature)):
		return nil, denied
	case !s.now().Before(u.job.Created.Add(importUpload)):
		return nil, fail(fleet.KindDenied, "AccessDenied", "Request has expired: the address was good for 15 minutes. Create another job.")
	}
	if s.cfg.OnProof != nil {
		s.cfg.OnProof(ctx)
	}
	return u, u.takes(u.job)
}

// takes refuses a file that comes when the job has begun.
func (u *ImportUpload) takes(i store.PoolImport) error {
	if i.Status != ImportCreated {
		return fail(fleet.KindState, "InvalidRequest", "The user import job takes no file any more: its status is "+i.Status+".")
	}
	return nil
}

// Receive stores a file of size bytes, in place of one that came before. When it returns without an error the file is durable; otherwise
// nothing has changed. It calls progress before it waits for more.
func (u *ImportUpload) Receive(ctx context.Context, file io.Reader, size int64, progress func()) error {
	s := u.s
	if size > maxImportSize {
		return fail(fleet.KindInvalid, "EntityTooLarge", fmt.Sprintf("The file has %d bytes, and may have %d.", size, maxImportSize))
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		return fail(fleet.KindThrottled, "SlowDown", "Too many files of users are being uploaded. Try again in a minute.")
	}
	id := fleet.NewUUID()
	if err := s.tx(ctx, func(tx *store.Tx) error { return tx.BeginImportFile(u.job.Scope, id) }); err != nil {
		return err
	}
	users, err := u.store(ctx, id, file, size, progress)
	if err == nil && users > maxImportUsers {
		err = fail(fleet.KindInvalid, "EntityTooLarge", fmt.Sprintf("The file has %d users, and may have %d.", users, maxImportUsers))
	}
	if err == nil {
		_, err = s.changeImport(ctx, u.job.Scope, u.job.Pool, u.job.ID, func(_ *store.Tx, _ *Pool, i *store.PoolImport) error {
			i.File, i.Size = id, size
			return u.takes(*i)
		})
	}
	if err != nil { // else it is swept later
		if kind := fleet.KindOf(err); kind == fleet.KindInternal || kind == fleet.KindUnavailable {
			s.log.ErrorContext(ctx, "a file of users could not be stored", "pool", u.job.Pool, "job", u.job.ID, "error", err)
		}
		_ = s.tx(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.DropImportFile(u.job.Scope, id) })
	}
	return err
}

// store stores the parts of a file and returns how many users it has.
func (u *ImportUpload) store(ctx context.Context, id string, file io.Reader, size int64, progress func()) (users int64, err error) {
	var count importCount
	buffer := make([]byte, min(importPart, size))
	for part, left := int64(0), size; left > 0; part++ {
		progress()
		content := buffer[:min(left, importPart)]
		if _, err := io.ReadFull(file, content); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fail(fleet.KindInvalid, "IncompleteBody", "The file ended early.")
			}
			return 0, err
		}
		if err := u.s.tx(ctx, func(tx *store.Tx) error { return tx.AddImportPart(u.job.Scope, id, part, content) }); err != nil {
			return 0, err
		}
		count.Write(content)
		left -= int64(len(content))
	}
	return count.close(), nil
}
