def render_markdown(reports) -> str:
    return "stub"
