"""A plain script: submit commands, wait for one, look at others."""

import os

from trainmaster_client import Client, CommandError

with Client(os.environ["TRAINMASTER_REDIS_URL"]) as client:
    try:
        found = client.run("list_models", {"order_by": "title"}, timeout=60)
        print(len(found["models"]), "models")
    except CommandError as error:
        print("did not work:", error.code, error.details.get("message"))

    # Many at once; an id of your own makes it safe to run the script again.
    ids = client.submit_many(
        {"id": f"report-{number}", "type": "list_models", "data": {}, "priority": "bulk"}
        for number in range(3)
    )
    for command_id, ending in client.wait_all(ids, timeout=60).items():
        print(command_id, ending.state)
