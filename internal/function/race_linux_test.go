//go:build race

package function

func init() { raceDetector = true }
