"""Does the data that is to be trained on fit the model?"""

from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

from fed_compute.client.datasets import Dataset
from fed_compute.client.models import build_model
from fed_compute.client.trainer_checks import check_data
from fed_compute.protocol.job import JobSpec, Loss, ModelSection
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.calls import Call


class DataChecks:
    """Checks each data set once for each model and loss. Keeps one model, that of the last check."""

    def __init__(self) -> None:
        self._fitting: WeakKeyDictionary[Dataset, list[tuple[ModelSection, Loss]]] = WeakKeyDictionary()
        self._probe: tuple[ModelSection, nn.Module] | None = None

    def require_fit(self, call: Call, job: JobSpec, schema: ParameterSchema) -> None:
        """Check the data sets that a call uses.

        Raises:
            ModelMismatch, ModelUnknown, DatasetInvalid: as `check_data` and `build_model`.
        """
        need = (job.model, job.training.loss)
        used = [call.datasets[number] for number in np.unique(call.sources)]
        for dataset in used:
            if need not in self._fitting.get(dataset, []):
                check_data(self._model(job, schema), job.training.loss, dataset)
                self._fitting.setdefault(dataset, []).append(need)

    def _model(self, job: JobSpec, schema: ParameterSchema) -> nn.Module:
        if self._probe is None or self._probe[0] != job.model:
            self._probe = job.model, build_model(Recipe.of(job, schema, seed=0))
        return self._probe[1]
