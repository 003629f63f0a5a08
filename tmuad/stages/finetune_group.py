"""Fine-tune the object classifier that the units of a group share: those of a data set ("-I"), or all ("-U")."""

from tmuad.config import Params
from tmuad.config_models import ClipFinetuneParams
from tmuad.errors import ParameterError
from tmuad.workspace import CURVES


def run(params: Params, group: str) -> None:
    from tmuad.describe import clip_classifier
    from tmuad.describe.training import groups, shared_model, tune

    tuned = params.finetune
    if not isinstance(tuned, ClipFinetuneParams) or tuned.scope == "unit":
        raise ParameterError("finetune.scope: no model is shared in this profile; nothing is to be trained for a group")
    known = groups(params, tuned)
    if group not in known:
        raise ParameterError(f"no group '{group}' in scope {tuned.scope}; there are: {', '.join(known)}")
    trained = tune(params, known[group])
    clip_classifier.save(trained.spec, trained.weights, shared_model(group))
    CURVES.mkdir(parents=True, exist_ok=True)
    trained.curve.to_csv(CURVES / f"{group}.csv", index=False, lineterminator="\n")
