package sigv4

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
)

// Bounds of what surrounds the bytes of a body in chunks.
const (
	maxChunk      = 5 << 30  // bytes of a chunk
	maxChunkLine  = 512      // bytes of its first line, and of a line of the trailer
	maxTrailer    = 16       // lines
	chunkBuffered = 32 << 10 // bytes
)

// ErrChunks is in every error about a body that is not in the form of chunks that the request announced.
var ErrChunks = errors.New("the body is not a sequence of chunks as aws-chunked has them")

// A Body is the content of a request to S3, as it is read. Whoever stores it keeps nothing unless Read ends with io.EOF: only then
// hashes and signatures have been found to be right.
type Body struct {
	payload *Payload
	in      *bufio.Reader
	sum     hash.Hash // of the body, or of the chunk; nil: none is asked for
	left    int64     // of the chunk
	begun   bool      // there was a chunk
	said    string    // signature of the chunk
	trailer map[string]string
	err     error
}

// Reader holds a body to what its request's signature says of it, and takes it out of its chunks.
func (p *Payload) Reader(body io.Reader) *Body {
	b := &Body{payload: p, in: bufio.NewReaderSize(body, chunkBuffered), trailer: map[string]string{}}
	if p.hash != nil || p.chain != nil {
		b.sum = sha256.New()
	}
	return b
}

// Chunked reports whether the body comes in chunks, so that the length of the request is not that of its content.
func (p *Payload) Chunked() bool { return p.chunked }

// Trailer returns a value that came behind the content, by its name in lower case. It is there after io.EOF.
func (b *Body) Trailer(name string) string { return b.trailer[name] }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.payload.chunked {
		n, err = b.readChunk(p)
	} else if n, err = b.in.Read(p); b.sum != nil {
		b.sum.Write(p[:n])
		if err == io.EOF {
			if wrong := b.payload.mismatch(b.sum.Sum(nil)); wrong != nil {
				err = wrong
			}
		}
	}
	b.err = err
	return n, err
}

func (b *Body) readChunk(p []byte) (int, error) {
	for b.left == 0 {
		last, err := b.nextChunk()
		if err != nil {
			return 0, err
		}
		if last {
			return 0, b.end()
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.in.Read(p)
	b.left -= int64(n)
	if b.sum != nil {
		b.sum.Write(p[:n])
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextChunk ends the chunk before and reads the first line of the next one: its length in hexadecimal digits, perhaps its signature.
func (b *Body) nextChunk() (last bool, err error) {
	if b.begun {
		if line, err := b.line(); err != nil || line != "" {
			return false, errors.Join(ErrChunks, err)
		}
		if err := b.proven(); err != nil {
			return false, err
		}
	}
	b.begun = true
	line, err := b.line()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, err
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(size, 16, 63)
	if err != nil || n > maxChunk {
		return false, ErrChunks
	}
	b.left, b.said = int64(n), strings.TrimPrefix(extension, "chunk-signature=")
	return n == 0, nil
}

// end checks the last chunk, which is empty, and reads what comes behind it.
func (b *Body) end() error {
	if err := b.proven(); err != nil {
		return err
	}
	var signed strings.Builder
	for range maxTrailer {
		line, err := b.line()
		if err != nil && err != io.EOF {
			return err
		}
		if err == nil && line == "" && b.payload.chain != nil && b.payload.trailer && b.trailer[trailerSignature] == "" && len(b.trailer) > 0 {
			continue // AWS's guide shows an empty line before the signature
		}
		if line == "" { // or the end: some clients leave out the empty line
			if err := b.provenTrailer(signed.String()); err != nil {
				return err
			}
			if _, err := b.in.ReadByte(); err == nil {
				return ErrChunks
			}
			return io.EOF
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if _, twice := b.trailer[name]; !ok || twice || !b.payload.trailer {
			return ErrChunks
		}
		if b.trailer[name] = value; name != trailerSignature {
			signed.WriteString(name + ":" + value + "\n")
		}
	}
	return ErrChunks
}

// line reads a line, without its end.
func (b *Body) line() (string, error) {
	var out []byte
	for {
		c, err := b.in.ReadByte()
		switch {
		case err == io.EOF && len(out) == 0:
			return "", io.EOF
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		case c == '\n':
			return strings.TrimSuffix(string(out), "\r"), nil
		case len(out) == maxChunkLine:
			return "", ErrChunks
		}
		out = append(out, c)
	}
}

const trailerSignature = "x-amz-trailer-signature"

// A chain links the signatures of chunks: each is made over the one before.
type chain struct {
	key  []byte
	head string // date and scope, a line each
	last string
}

func (c *chain) next(kind, rest, said string) error {
	want := hex.EncodeToString(mac(c.key, kind+"\n"+c.head+c.last+"\n"+rest))
	if !hmac.Equal([]byte(want), []byte(said)) {
		return refuse(InvalidSignature, "%s", mismatch)
	}
	c.last = want
	return nil
}

var emptyHash = hex.EncodeToString(sha256.New().Sum(nil))

// proven checks the signature of the chunk that has been read.
func (b *Body) proven() error {
	if b.payload.chain == nil {
		return nil
	}
	sum := hex.EncodeToString(b.sum.Sum(nil))
	b.sum.Reset()
	return b.payload.chain.next("AWS4-HMAC-SHA256-PAYLOAD", emptyHash+"\n"+sum, b.said)
}

func (b *Body) provenTrailer(signed string) error {
	if b.payload.chain == nil || !b.payload.trailer {
		return nil
	}
	sum := sha256.Sum256([]byte(signed))
	return b.payload.chain.next("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]), b.trailer[trailerSignature])
}
