"""What proxies know together: sums such as spend, and short-lived entries such as who answers a conversation.

    state = open_state(StateOptions(redis=RedisAddress(host="redis")), log)
    task = asyncio.create_task(state.run())         # shares in the background
    state.add("spend:auto:2026-01-01", 0.002, 90_000)
    state.total("spend:auto:2026-01-01")            # from memory: every proxy's additions, a second old at most

Without Redis the processes of one machine share through a folder, which also survives a restart.
"""

from embedllm_router.state.opening import open_state
from embedllm_router.state.options import RedisAddress, StateHealth, StateOptions, default_state_path
from embedllm_router.state.shared import SharedState

__all__ = ["RedisAddress", "SharedState", "StateHealth", "StateOptions", "default_state_path", "open_state"]
