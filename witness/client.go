package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Limits of the talk with a witness.
const (
	maxAnswer = 64 << 10
	maxTries  = 3 // a witness that names another size each time is given up (T19)
)

// Endpoint is a witness and where it answers.
type Endpoint struct {
	receipt.Witness
	URL string // the submission prefix
}

// asked is one witness, and the size that it cosigned last as far as we know.
type asked struct {
	Endpoint
	http *http.Client
	size uint64
}

// pathFrom returns the consistency path from a size to that of the checkpoint.
type pathFrom func(ctx context.Context, size uint64) ([]receipt.Hash, error)

// cosign returns the checkpoint with the witness's cosignature added. It is STATE_ROLLBACK if the witness has seen a
// longer log, LOG_INCONSISTENT if it has seen another one, THRESHOLD_NOT_MET if it names another size again and again,
// and a fault if it does not answer, or with anything else than C2SP tlog-witness says.
func (a *asked) cosign(ctx context.Context, size uint64, checkpoint []byte, path pathFrom) ([]byte, error) {
	for range maxTries {
		if a.size > size {
			seen := a.size
			a.size = 0
			return nil, denial.New(denial.StateRollback, "a witness has seen %d entries, the log has %d", seen, size)
		}
		status, answer, err := a.post(ctx, checkpoint, path)
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			signed, err := receipt.AddCosignatures(checkpoint, answer, a.Key)
			if err == nil {
				a.size = size
			}
			return signed, err
		case http.StatusUnprocessableEntity:
			return nil, denial.New(denial.LogInconsistent, "a witness has seen another log of this origin")
		case http.StatusConflict:
		default:
			return nil, fmt.Errorf("asking witness %s: status %d", a.Key.Name(), status)
		}
		if a.size, err = strconv.ParseUint(strings.TrimSuffix(string(answer), "\n"), 10, 64); err != nil {
			return nil, denial.New(denial.LogInconsistent, "a witness has seen another root of this size")
		}
	}
	return nil, denial.New(denial.ThresholdNotMet, "a witness names another size each time")
}

// post submits the checkpoint once. The answer to a conflict that names no size is returned empty.
func (a *asked) post(ctx context.Context, checkpoint []byte, path pathFrom) (status int, answer []byte, err error) {
	body, err := submission(ctx, a.size, checkpoint, path)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(a.URL, "/")+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("asking witness: %w", err)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("asking witness %s: %w", a.Key.Name(), err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("asking witness %s: %w", a.Key.Name(), err)
	}
	if len(answer) > maxAnswer {
		return 0, nil, fmt.Errorf("asking witness %s: its answer is too long", a.Key.Name())
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusConflict && media != "text/x.tlog.size" {
		answer = nil
	}
	return resp.StatusCode, answer, nil
}

// submission is the body of add-checkpoint.
func submission(ctx context.Context, old uint64, checkpoint []byte, path pathFrom) ([]byte, error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	if old > 0 {
		hashes, err := path(ctx, old)
		if err != nil {
			return nil, err
		}
		for _, h := range hashes {
			body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
		}
	}
	return append(append(body, '\n'), checkpoint...), nil
}
