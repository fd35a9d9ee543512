"""Django: a command goes out once the transaction that asks for it is committed, and never before.

Its id is made of the row's, so that a view that runs twice sends one command.
"""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.db import models, transaction

from trainmaster_client import Client

client = Client(settings.TRAINMASTER_REDIS_URL)


class Dataset(models.Model):
    """What is to be trained on."""

    name: models.CharField[str, str] = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


def create_dataset(name: str) -> Dataset:
    """Stores a dataset and asks for a model of it."""
    with transaction.atomic():
        dataset = Dataset.objects.create(name=name)
        data = {"title": name, "model": "resnet18", "features": ["round", "square"]}
        send = partial(client.submit, "create_model", data, id=f"dataset-{dataset.pk}")
        transaction.on_commit(send)
    return dataset
