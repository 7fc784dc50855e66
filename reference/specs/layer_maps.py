"""Layer maps: cases. The formulas: `layer_maps.py`."""

from tinydistill_reference import layer_maps
from tinydistill_reference.equation import Case, Convention, Equation

DEPTHS = ((6, 12), (4, 12), (3, 12), (2, 12), (3, 24), (6, 24), (5, 15), (1, 7), (6, 6))


def cases(depths=DEPTHS, refused=()):
    """cases(numbers): a case for each (M, L), and for each that has no map."""
    def made(numbers):
        for n, (M, L) in enumerate(depths, 1):
            yield Case(f"{n:02d}-{M}-of-{L}", f"a student of {M} and a teacher of {L} layers", {},
                       {"student_layers": M, "teacher_layers": L})
        for n, (M, L, why) in enumerate(refused, 20):
            yield Case(f"{n}-{M}-of-{L}", why, {}, {"student_layers": M, "teacher_layers": L}, result="error",
                       error="(?i)student|teacher|layer|depth|multiple|divi")
    return made


NOT_A_MULTIPLE = ((5, 12, "12 is no multiple of 5"), (6, 3, "a teacher of fewer layers"))
FEWER = ((4, 3, "a teacher of fewer layers"),)
LONELY = ((1, 12, "PKD has nothing to compare in a student of one layer"),)
MORE_THAN_ONE = tuple((M, L) for M, L in DEPTHS if M > 1)


def layer_map(name, paper, where, formula, made, source):
    return Equation(f"layer_map.{name}", paper, where, formula, getattr(layer_maps, name), None, {}, (), made,
                    {"student_layers": 6, "teacher_layers": 12}, {"paper": Convention({}, source)}, ("pairs",))


EQUATIONS = (
    layer_map("last", "Wang et al. 2020", "section 3", "(M, L), layers counted from 1", cases((*DEPTHS, (12, 3))),
              "MiniLM: the last layer of each"),
    layer_map("uniform", "Jiao et al. 2020", "section on the mapping function", "g(m) = m L/M, layers counted from 1",
              cases(refused=NOT_A_MULTIPLE), "TinyBERT; Aguilar et al. 2020"),
    layer_map("top", "Jiao et al. 2020", "section on the mapping function", "g(m) = m + L - M, layers counted from 1",
              cases((*DEPTHS, (5, 12)), FEWER), "TinyBERT's ablation"),
    layer_map("bottom", "Jiao et al. 2020", "section on the mapping function", "g(m) = m, layers counted from 1",
              cases((*DEPTHS, (5, 12)), FEWER), "TinyBERT's ablation"),
    layer_map("one_to_one", "Sun et al. 2020", "section on knowledge transfer", "g(m) = m, where M = L",
              cases(((6, 6), (24, 24), (1, 1)), ((3, 4, "a deeper teacher"), (4, 3, "a deeper student"))),
              "MobileBERT"),
    layer_map("skip", "Sun et al. 2019", "section 3", "g(m) = m L/M for m < M, layers counted from 1",
              cases(MORE_THAN_ONE, NOT_A_MULTIPLE + LONELY), "PKD-Skip: layers 2, 4, 6, 8, 10 of twelve"),
    layer_map("patient_last", "Sun et al. 2019", "section 3", "g(m) = m + L - M for m < M, layers counted from 1",
              cases((*MORE_THAN_ONE, (5, 12)), FEWER + LONELY), "PKD-Last: layers 7 to 11 of twelve"),
    layer_map("middle", "Romero et al. 2015", "section on hints", "(ceil(M/2), ceil(L/2)), layers counted from 1",
              cases((*DEPTHS, (5, 11), (12, 4))), "FitNets: the middle of each"),
    layer_map("alternate", "Sanh et al. 2019", "section 3, student initialization",
              "g(m) = m L/M, layers counted from 0",
              cases(), "DistilBERT's paper: one layer out of two"),
    layer_map("spread", "Sanh et al. 2019", "section 3, as their code has it",
              "g(m) = m (L - 1) / (M - 1), rounded, layers counted from 0", cases((*DEPTHS, (5, 12))),
              "huggingface/transformers-research-projects distillation/scripts/extract_distilbert.py, six of twelve"),
)
