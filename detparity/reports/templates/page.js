'use strict';
(function () {
  const filters = document.querySelector('.filters');
  const search = document.getElementById('search');
  const count = document.getElementById('count');
  const articles = [...document.querySelectorAll('article')];
  const text = new Map(articles.map(one => [one.id, one.textContent.toLowerCase()]));
  let verdict = '';

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const article of articles) {
      const fits = (!verdict || article.dataset.verdict === verdict) && words.every(word => text.get(article.id).includes(word));
      article.hidden = !fits;
      document.getElementById('row-' + article.id).hidden = !fits;
      shown += fits;
    }
    count.textContent = shown + ' of ' + articles.length + (articles.length === 1 ? ' file' : ' files') + ' shown';
  }

  if (filters) {
    filters.hidden = false;
    search.addEventListener('input', apply);
    for (const button of filters.querySelectorAll('button')) {
      button.addEventListener('click', () => {
        verdict = button.dataset.verdict;
        for (const other of filters.querySelectorAll('button')) other.setAttribute('aria-pressed', String(other === button));
        apply();
      });
    }
    apply();
  }

  async function copy(value) {
    try {
      await navigator.clipboard.writeText(value);
    } catch (_) {
      const field = document.createElement('textarea');
      field.value = value;
      document.body.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
    }
  }

  for (const button of document.querySelectorAll('.repeat button')) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      await copy(button.parentElement.querySelector('code').textContent);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
      button.focus();
    });
  }

  function open() {
    let one = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const own = one && one.querySelector(':scope > details.file');
    if (own) own.open = true;
    for (; one; one = one.parentElement) if (one.tagName === 'DETAILS') one.open = true;
  }
  addEventListener('hashchange', open);
  addEventListener('beforeprint', () => document.querySelectorAll('details.print').forEach(one => { one.open = true; }));
  open();
})();
