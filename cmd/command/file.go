package command

import (
	"io"
	"os"

	"github.com/governed-execution/writ/denial"
)

// Small is the limit for files that hold a key, certificates, a policy, an act or settings: none comes near it.
const Small = 4 << 20

// ReadFile reads a file that a person has named. One with more than limit bytes is refused (313), and no more of it is read: whoever
// names the wrong file is told so, whatever it is.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > limit {
		return nil, tooLarge(limit)
	}
	return ReadAll(f, limit)
}

// ReadAll reads what has at most limit bytes, as ReadFile does.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(limit)
	}
	return data, nil
}

func tooLarge(limit int64) error {
	return denial.New(denial.StructureLimit, "the file has more than %d bytes", limit).Try("See that it is the right file: none of its kind is that large.")
}
