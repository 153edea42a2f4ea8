"""Uses the router without LiteLLM: loads the shipped weights, routes prompts, looks at the whole decision."""

from embedllm_router import Router

router = Router.load()
pool = router.pool(["gpt-4o-mini", "claude-sonnet-4", "o3-mini", "llama-3.1-8b-instruct"])

for prompt in ("Hi!", "Find all functions f: Q -> Q with f(x + f(y)) = f(x) + y."):
    routing = router.route(prompt, cost_weight=20.0, pool=pool)
    print(prompt)
    for candidate in routing.decision.assessments():
        print(
            f"  {candidate.name:28} p_correct {candidate.p_correct:.3f}"
            f"  cost {candidate.cost_usd:.6f} USD  utility {candidate.utility:.3f}"
        )
