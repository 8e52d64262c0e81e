package bucket

import (
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// nvme is the polynomial of CRC64NVME, with its bits reversed as package crc64 has them.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// NewHash returns the hash of an S3 checksum algorithm; nil if there is none of that name.
func NewHash(algorithm string) hash.Hash {
	switch algorithm {
	case "CRC32":
		return crc32.NewIEEE()
	case "CRC32C":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "CRC64NVME":
		return crc64.New(nvme)
	case "SHA1":
		return sha1.New()
	case "SHA256":
		return sha256.New()
	}
	return nil
}

// Algorithms are the names that NewHash knows.
var Algorithms = []string{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"}
