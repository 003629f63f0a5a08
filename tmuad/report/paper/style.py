"""What the paper's part of the page adds to the style of reports/index.html."""

STYLE = """
.paper td { white-space: normal; } .paper td:first-child { min-width: 9rem; } .paper details { margin: 0.6rem 0; }
.legend { font-size: 0.85rem; color: var(--faint); padding-left: 1.2rem; } .legend li { margin: 0.15rem 0; }
.chart { padding: 0.8rem; } .chart svg { width: 100%; height: auto; color: var(--ink); } .missing { color: var(--faint); }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem; }
"""
