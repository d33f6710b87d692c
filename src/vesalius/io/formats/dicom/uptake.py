"""PET: the factor by which stored units become standardised uptake values by body weight (SUV), from what the header says.

SUV = activity per millilitre / (dose that is left at the reference time / body weight in grams), water weighing 1 g/ml (Thie 2004,
J Nucl Med 45:1431); which time that is follows DecayCorrection (PS3.3 C.8.9.1) and QIBA's vendor-neutral rule (FDG-PET profile
1.13, appendix G): the series time, where no slice was acquired before it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from vesalius.io.formats.dicom.heads import Head

DAY = timedelta(days=1)
LONGEST = timedelta(hours=24)  # between injection and scan; more is a wrong clock


def told(heads: Sequence[Head]) -> dict[str, Any]:
    """{"suv_factor": by what pixels are multiplied} of a PET series, {"no_suv": why} where the header says too little; {} of all else."""
    if heads[0].modality != "PT":
        return {}
    try:
        return {"suv_factor": factor(heads)}
    except (ValueError, TypeError, AttributeError, ArithmeticError) as problem:
        return {"no_suv": str(problem)}


def factor(heads: Sequence[Head]) -> float:
    """SUV per stored unit; a ValueError says what the header lacks."""
    head = heads[0]
    units = str(head.get("Units", ""))
    if units == "GML":
        return 1.0
    if units != "BQML":
        raise ValueError(f"its units are {units or 'not stated'}, not BQML (becquerel per millilitre)")
    weight = _positive(head.get("PatientWeight"), "the body weight (PatientWeight)")
    drugs = head.get("RadiopharmaceuticalInformationSequence")
    if not drugs:
        raise ValueError("the header does not tell of the injection (RadiopharmaceuticalInformationSequence)")
    dose = _positive(drugs[0].get("RadionuclideTotalDose"), "the dose (RadionuclideTotalDose)")
    return weight * 1000 / (dose * _left(heads, drugs[0]))


def _left(heads: Sequence[Head], drug: Any) -> float:
    """The part of the dose that has not decayed at the time to which the pixels are corrected."""
    corrected = str(heads[0].get("DecayCorrection", ""))
    if corrected == "ADMIN":
        return 1.0
    if corrected != "START":
        raise ValueError(f"the decay is corrected to no time that is known (DecayCorrection {corrected or 'is absent'})")
    half = _positive(drug.get("RadionuclideHalfLife"), "the half-life (RadionuclideHalfLife)")
    start = reference(heads)
    gone = start - _injected(drug, start)
    if gone < timedelta(0) or gone > LONGEST:
        raise ValueError(f"the injection would be {gone.total_seconds() / 3600:.1f} hours before the scan: a clock or a date is wrong")
    return float(2.0 ** (-gone.total_seconds() / half))


def reference(heads: Sequence[Head]) -> datetime:
    """The series time, or the first acquisition where that is earlier (a series that was made anew later)."""
    acquired = [time for head in heads if (time := _moment(head, "Acquisition"))]
    series = _moment(heads[0], "Series")
    known = [time for time in (series, min(acquired, default=None)) if time]
    if not known:
        raise ValueError("neither series nor acquisition time is stated")
    return min(known)


def _moment(head: Head, what: str) -> datetime | None:
    date, time = (str(head.get(f"{what}{part}", "")) for part in ("Date", "Time"))
    return _read(date + time.partition(".")[0]) if date and time else None


def _injected(drug: Any, start: datetime) -> datetime:
    """When it was injected: date and time where both are stated, else the last such time of day before `start`."""
    whole = str(drug.get("RadiopharmaceuticalStartDateTime") or "")
    if len(whole) >= 12:
        return _read(whole[:14])
    time = str(drug.get("RadiopharmaceuticalStartTime") or "").partition(".")[0]
    if not time:
        raise ValueError("the time of the injection is not stated (RadiopharmaceuticalStartTime)")
    found = _read(start.strftime("%Y%m%d") + time)
    return found if found <= start else found - DAY


def _read(text: str) -> datetime:
    """YYYYMMDDhhmm or YYYYMMDDhhmmss."""
    return datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S")  # DICOM times of one object are of one zone


def _positive(value: Any, what: str) -> float:
    number = float(value or 0)
    if not number > 0:
        raise ValueError(f"the header does not state {what}")
    return number
