package attest

import (
	"maps"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// checkIMA refuses a Want that selects PCR 10 without the PCRs that the first entry of an IMA list is about, or that knows
// files where nothing would show them. It returns what is known of files, nil where none is to be shown.
func (w Want) checkIMA() (*imaReference, error) {
	if !slices.Contains(w.Selection.PCRs, imaPCR) {
		if len(w.IMA.Known)+len(w.IMA.Keys)+len(w.IMA.Watch) > 0 {
			return nil, denial.New(denial.Internal, "the verifier knows files of IMA, but does not want PCR %d", imaPCR)
		}
		return nil, nil
	}
	for p := range imaPCR {
		if !slices.Contains(w.Selection.PCRs, p) {
			return nil, denial.New(denial.Internal, "PCR %d is wanted without PCR %d, which boot_aggregate is about", imaPCR, p)
		}
	}
	ref, err := w.IMA.compile()
	if err != nil {
		return nil, denial.New(denial.Internal, "the verifier knows files in no form that can be compared")
	}
	return ref, nil
}

// withoutIMA returns the quoted values that the boot log must account for.
func withoutIMA(pcrs map[int64][]byte) map[int64][]byte {
	if _, quoted := pcrs[imaPCR]; !quoted {
		return pcrs
	}
	pcrs = maps.Clone(pcrs)
	delete(pcrs, imaPCR)
	return pcrs
}

// checkIMA checks the IMA list of evidence, as the last two lines of Verify say. The boot log has replayed.
func (q *quote) checkIMA(ev *Evidence, bank string) (IMA, error) {
	_, quoted := q.pcrs[imaPCR]
	if quoted != (ev.ima != nil) {
		return IMA{}, denial.New(denial.LogUncovered, "there must be an IMA list exactly if PCR %d is quoted", imaPCR)
	}
	if !quoted {
		return IMA{Files: []IMAFile{}, Buffers: []Buffer{}}, nil
	}
	log, err := parseLog(ev.log)
	if err != nil {
		return IMA{}, err
	}
	if log.extends(imaPCR) {
		return IMA{}, denial.New(denial.EventUnexpected, "the boot log extends PCR %d, which belongs to the operating system", imaPCR)
	}
	return newIMAFacts(ev.ima, bank, q.pcrs, q.ima)
}
