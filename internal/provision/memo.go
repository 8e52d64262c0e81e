package provision

import "sync"

// A memo keeps what was worked out of texts that never change, such as versions of templates and of policies.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
}

// maxMemo bounds a memo; beyond it, it begins anew.
const maxMemo = 512

// get returns the value of a key, which work finds if it is not known. An error is not kept.
func (c *memo[K, V]) get(key K, work func() (V, error)) (V, error) {
	c.mu.Lock()
	v, known := c.m[key]
	c.mu.Unlock()
	if known {
		return v, nil
	}
	v, err := work()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxMemo {
		c.m = map[K]V{}
	}
	c.m[key] = v
	return v, nil
}
