"""Made-up ids, the same thing by the same id in the example of every command."""

from __future__ import annotations

MODEL_UUID = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"
TRAINING_UUID = "7d9e4b13-0c55-4d0e-8c61-52a3f6b7d802"
PROJECT_UUID = "c4a7e6f0-93d1-4b7f-a1c5-0e8d2b3f4a03"
PROJECT_MODEL_UUID = "91b3d5e7-2468-4ace-b135-7f9e0d1c2b04"
LABEL_UUID = "58f6c1d2-a3b4-4c5d-9e6f-708192a3b405"
DATA_UUID = "e0d1c2b3-a495-4867-8594-a3b2c1d0e006"
